#!/usr/bin/env node
'use strict'

// Writes the logs of a Corestore on disk as JSON lines, for `cargo sim check-log FILE --key HEX`.
//
//   cd my-project && node PATH/export.js STORE > logs.jsonl
//
// Run it in a project that has corestore 7 and hypercore 11 installed: it uses those. The store is opened read-only. No secret
// is written: blocks stand as they are stored, so those of an encrypted database stay encrypted.
//
// The lines:
//
//   {"format":"hypercore-logs","version":1}
//   {"log":KEY,"manifest":HEX|null,"fork":N,"length":N,"signature":HEX}    a log, and behind it `length` blocks
//   {"block":HEX}
//   {"left_out":KEY,"why":TEXT}                                             a log that is not in the file

const { once } = require('events')
const fs = require('fs')
const { createRequire } = require('module')
const path = require('path')

const USAGE = `Usage: node export.js STORE > FILE

Writes the logs of a Corestore on disk as JSON lines, for \`cargo sim check-log FILE --key HEX\`.
Run it in a project that has corestore 7 and hypercore 11 installed. The store is only read.`

function load() {
  const project = createRequire(path.join(process.cwd(), 'package.json'))
  const Corestore = project('corestore')
  // Those that corestore itself uses: there may be several.
  const beside = createRequire(project.resolve('corestore'))
  const hypercore = createRequire(beside.resolve('hypercore'))
  return {
    Corestore,
    messages: hypercore('hypercore/lib/messages'),
    encoding: hypercore('compact-encoding')
  }
}

async function print(line) {
  if (!process.stdout.write(JSON.stringify(line) + '\n')) await once(process.stdout, 'drain')
}

async function head(core) {
  if (core.length === 0) return { why: 'is empty' }
  if (core.contiguousLength < core.length) {
    return { why: `has holes: block ${core.contiguousLength} of ${core.length} is not stored` }
  }
  const proof = await core.proof({ upgrade: { start: 0, length: core.length } })
  const signature = proof && proof.upgrade && proof.upgrade.signature
  return signature ? { signature } : { why: 'is not signed' }
}

async function main() {
  const [folder, ...more] = process.argv.slice(2)
  if (folder === '--help' || folder === '-h') {
    console.log(USAGE)
    return 0
  }
  if (!folder || more.length > 0) {
    console.error(USAGE)
    return 2
  }
  // Opening would make it.
  if (!fs.existsSync(path.join(folder, 'db', 'CURRENT'))) throw new Error('holds no Corestore (there is no db/CURRENT)')
  const { Corestore, messages, encoding } = load()
  const store = new Corestore(folder, { readOnly: true })
  await store.ready()
  const found = []
  for await (const discoveryKey of store.storage.createDiscoveryKeyStream()) found.push(discoveryKey)

  await print({ format: 'hypercore-logs', version: 1 })
  let logs = 0
  for (const discoveryKey of found) {
    const core = store.get({ discoveryKey, active: false })
    await core.ready()
    const key = core.key.toString('hex')
    const { signature, why } = await head(core)
    if (why) {
      await print({ left_out: key, why })
      console.error(`left out: ${key} ${why}`)
    } else {
      const manifest = core.manifest && core.manifest.version > 0 ? encoding.encode(messages.manifest, core.manifest) : null
      await print({
        log: key,
        manifest: manifest && manifest.toString('hex'),
        fork: core.fork,
        length: core.length,
        signature: signature.toString('hex')
      })
      for (let i = 0; i < core.length; i++) {
        const block = await core.get(i, { wait: false, raw: true })
        await print({ block: Buffer.from(block).toString('hex') })
      }
      logs++
    }
    await core.close()
  }
  await store.close()
  console.error(`${logs} of ${found.length} logs written`)
  return logs > 0 ? 0 : 1
}

main().then(
  (code) => {
    process.exitCode = code
  },
  (error) => {
    console.error(`${process.argv[2]}: ${error.message}`)
    process.exitCode = 1
  }
)
