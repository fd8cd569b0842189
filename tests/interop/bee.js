'use strict'

// The other side of tests/interop_bee.rs: rebuilds cores from their blocks, continues trees on them, and reads every
// version back.
//
// usage: node bee.js TASK ANSWER STORAGE
//
// TASK and ANSWER are JSON files; bytes are hex, a core or version is its position in a list. The task:
//   degree    for trees that begin
//   cores     [{ seed, blocks }]            to be made from a key pair, with these blocks
//   versions  [{ core, length }]            the heads so far
//   writes    [{ local, on, blockBytes, clear, ops: [{ put: [key, value] } | { delete: key }] }]; each makes a version
//   ranges    [{ version, gt, gte, lt, lte, reverse, limit }]
//   gets      [{ version, key }]
//   diffs     [[left, right]]
// The answer: the cores as they are then, all versions, and what was read.

const fs = require('fs')
const Corestore = require('corestore')
const Hyperbee = require('hyperbee2')
const { keyPair } = require('hypercore-crypto')

const TIME_LIMIT_MS = 120_000

const hex = (bytes) => (bytes ? Buffer.from(bytes).toString('hex') : null)
const bytes = (text) => Buffer.from(text, 'hex')
const pair = (entry) => (entry ? [hex(entry.key), hex(entry.value)] : null)

async function main([taskFile, answerFile, storage]) {
  const task = JSON.parse(fs.readFileSync(taskFile))
  const store = new Corestore(storage)
  const cores = []
  for (const { seed, blocks } of task.cores) {
    const core = store.get({ keyPair: keyPair(bytes(seed)) })
    await core.ready()
    if (blocks.length) await core.append(blocks.map(bytes))
    cores.push(core)
  }

  const position = (key) => cores.findIndex((core) => core.key.equals(key))
  const place = (head) => ({ core: position(head.key), length: head.length })
  const head = ({ core, length }) => ({ key: cores[core].key, length })

  const versions = task.versions.slice()
  // One tree for each core that is written to, opened where the core ends.
  const trees = cores.map((core) => new Hyperbee(store, { key: core.key, t: task.degree }))
  for (const tree of trees) await tree.ready()
  for (const { local, on, blockBytes, clear, ops } of task.writes) {
    const tree = trees[local]
    tree.move(head(versions[on]))
    const batch = tree.write({ preferredBlockSize: blockBytes })
    if (clear) batch.tryClear()
    for (const op of ops) {
      if (op.put) batch.tryPut(...op.put.map(bytes))
      else batch.tryDelete(bytes(op.delete))
    }
    await batch.flush()
    versions.push(place(tree.head()))
  }

  // Read by a tree that has seen none of the writes.
  const reader = new Hyperbee(store, { key: cores[0].key, t: task.degree })
  await reader.ready()
  const at = (version) => reader.checkout(head(versions[version]))
  const collect = async (stream, item) => {
    const items = []
    for await (const data of stream) items.push(item(data))
    return items
  }
  const listings = []
  const chains = []
  for (const version of versions.keys()) {
    listings.push(await collect(at(version).createReadStream(), pair))
    chains.push(await collect(at(version).createChangesStream(), (change) => place(change.head)))
  }
  const ranges = []
  for (const { version, ...range } of task.ranges) {
    for (const bound of ['gt', 'gte', 'lt', 'lte']) {
      if (bound in range) range[bound] = bytes(range[bound])
    }
    ranges.push(await collect(at(version).createReadStream(range), pair))
  }
  const gets = []
  for (const { version, key } of task.gets) gets.push(pair(await at(version).get(bytes(key))))
  const diffs = []
  for (const [left, right] of task.diffs) {
    const stream = at(left).createDiffStream(at(right))
    diffs.push(await collect(stream, (item) => [pair(item.left), pair(item.right)]))
  }

  const written = []
  for (const core of cores) {
    const blocks = []
    for (let i = 0; i < core.length; i++) blocks.push(hex(await core.get(i)))
    written.push({ key: hex(core.key), treeHash: hex(await core.treeHash()), blocks })
  }
  await store.close()
  const answer = { cores: written, versions, listings, chains, ranges, gets, diffs }
  fs.writeFileSync(answerFile, JSON.stringify(answer))
}

setTimeout(() => {
  console.error('out of time')
  process.exit(1)
}, TIME_LIMIT_MS).unref()

main(process.argv.slice(2)).catch((error) => {
  console.error(error)
  process.exit(1)
})
