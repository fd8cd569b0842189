'use strict'

// A peer that does what it is told: one JSON object a line on stdin, one JSON object a line as the answer.

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const readline = require('readline')

const Corestore = require('corestore')
const SecretStream = require('@hyperswarm/secret-stream')

// Nothing here takes that long; a test that hangs is to fail.
const LIMIT = 100000

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'autobee-interop-'))
const store = new Corestore(folder)
const cores = new Map()
const sockets = new Set()
const errors = []

setTimeout(() => stop(3), LIMIT)

function attach(socket, isInitiator) {
  socket.setNoDelay(true)
  sockets.add(socket)
  socket.on('close', () => sockets.delete(socket))
  const noise = new SecretStream(isInitiator, socket)
  noise.on('error', (error) => errors.push(error.message))
  store.replicate(noise)
}

async function until(done) {
  while (!done()) await new Promise((resolve) => setTimeout(resolve, 10))
}

async function texts(core) {
  const blocks = []
  for (let i = 0; i < core.length; i++) blocks.push((await core.get(i)).toString())
  return blocks
}

const commands = {
  async listen({ initiator }) {
    const server = net.createServer((socket) => attach(socket, initiator))
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    return { port: server.address().port }
  },
  async connect({ port, initiator }) {
    const socket = net.connect(port, '127.0.0.1')
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    attach(socket, initiator)
  },
  async cut() {
    for (const socket of sockets) socket.destroy()
  },
  async open({ core: label, name, key, encryption }) {
    const core = store.get({
      ...(key ? { key: Buffer.from(key, 'hex') } : { name }),
      ...(encryption ? { encryption: { key: Buffer.from(encryption, 'hex') } } : {})
    })
    await core.ready()
    core.on('verification-error', (error) => errors.push(error.message))
    core.on('invalid-request', (error) => errors.push(error.message))
    cores.set(label, core)
    return { key: core.key.toString('hex') }
  },
  async append({ core, blocks }) {
    return { length: (await cores.get(core).append(blocks.map((text) => Buffer.from(text)))).length }
  },
  async truncate({ core, length }) {
    await cores.get(core).truncate(length)
  },
  async get({ core, index }) {
    return { text: (await cores.get(core).get(index, { timeout: 20000 })).toString() }
  },
  async missing({ core, index }) {
    return { has: await cores.get(core).has(index) }
  },
  async follow({ core }) {
    cores.get(core).download({ start: 0, end: -1 })
  },
  async whole({ core: label, length }) {
    await until(() => cores.get(label).contiguousLength >= length)
  },
  async reached({ core: label, length, fork }) {
    const core = cores.get(label)
    await until(() => core.length === length && core.fork === fork && core.contiguousLength === length)
    return { blocks: await texts(core), treeHash: (await core.treeHash()).toString('hex') }
  },
  async folder() {
    return { folder }
  },
  async errors() {
    return { errors, streams: sockets.size }
  }
}

async function stop(code) {
  await store.close().catch(() => {})
  fs.rmSync(folder, { recursive: true, force: true })
  process.exit(code)
}

let chain = Promise.resolve()
const lines = readline.createInterface({ input: process.stdin })
lines.on('line', (line) => {
  chain = chain.then(async () => {
    const command = JSON.parse(line)
    let answer
    try {
      answer = (await commands[command.do](command)) || {}
    } catch (error) {
      answer = { error: error.message }
    }
    process.stdout.write(JSON.stringify(answer) + '\n')
  })
})
lines.on('close', () => {
  chain.then(() => stop(0))
})
