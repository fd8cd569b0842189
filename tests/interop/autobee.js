'use strict'

// A peer of the original Autobee, on the command line as examples/db_peer.rs is: the same words, the same lines.
//
//   AUTOBEE_JS=CHECKOUT node autobee.js create | join KEY --dir DIR [--listen ADDR] [--connect ADDR]... [--encryption-key HEX]
//                                               [--ff on]

const net = require('net')
const path = require('path')
const readline = require('readline')

const root = path.resolve(process.env.AUTOBEE_JS)
const installed = (name) => require(require.resolve(name, { paths: [root] }))
const Autobee = require(root)
const Corestore = installed('corestore')
const SecretStream = installed('@hyperswarm/secret-stream')

const words = process.argv.slice(2)
const all = (name) => words.flatMap((word, at) => (word === name ? [words[at + 1]] : []))
const hex = (key) => Buffer.from(key).toString('hex')
const json = (value) => Buffer.from(JSON.stringify(value))

const say = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
const address = (text) => ({ host: text.split(':')[0], port: Number(text.split(':')[1]) })

async function apply(nodes, view, host) {
  for (const node of nodes) {
    const op = JSON.parse(node.value.toString())
    if (op.addWriter) await host.addWriter(Buffer.from(op.addWriter, 'hex'), { weight: op.weight === undefined ? 1 : op.weight })
    if (op.removeWriter) await host.removeWriter(Buffer.from(op.removeWriter, 'hex'))
    if (op.put) {
      const write = view.write()
      write.tryPut(Buffer.from(op.put[0]), Buffer.from(op.put[1]))
      await write.flush()
    }
    if (op.del) {
      const write = view.write()
      write.tryDelete(Buffer.from(op.del))
      await write.flush()
    }
  }
}

async function main() {
  const [how, key] = words
  const [dir] = all('--dir')
  const [secret] = all('--encryption-key')
  const store = new Corestore(dir, { manifestVersion: 2 })
  const auto = new Autobee(store, how === 'join' ? Buffer.from(key, 'hex') : null, {
    apply,
    ...(secret ? { encrypted: true, encryptionKey: Buffer.from(secret, 'hex') } : {}),
    ...(all('--ff')[0] === 'on' ? { fastForward: { conservative: false } } : { isTrusted: () => false })
  })
  auto.on('error', (error) => say('failed', { message: error.message }))
  await auto.ready()

  const sockets = new Set()
  const attach = (socket, isInitiator) => {
    sockets.add(socket)
    socket.setNoDelay(true)
    const noise = new SecretStream(isInitiator, socket)
    noise.on('error', () => {})
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    auto.replicate(noise)
    return noise
  }
  const dial = (to) => {
    const socket = net.connect(address(to))
    socket.on('error', () => {})
    socket.on('connect', () => attach(socket, true))
    socket.on('close', () => setTimeout(dial, 100, to))
  }
  for (const to of all('--connect')) dial(to)
  const server = net.createServer((socket) => attach(socket, false))
  const [at] = all('--listen')
  if (at) await new Promise((resolve) => server.listen({ ...address(at) }, resolve))

  const view = async () => {
    const entries = {}
    for await (const entry of auto.bee.createReadStream()) entries[entry.key.toString()] = entry.value.toString()
    return entries
  }
  const append = async (values, options) => {
    await auto.append(values, options)
    say('appended', { length: auto.local.length })
  }
  const commands = {
    put: (name, ...rest) => append(json({ put: [name, rest.join(' ')] })),
    del: (name) => append(json({ del: name })),
    batch: (...pairs) => {
      const values = []
      for (let at = 0; at < pairs.length; at += 2) values.push(json({ put: [pairs[at], pairs[at + 1]] }))
      return append(values)
    },
    optimistic: (name, ...rest) => append(json({ put: [name, rest.join(' ')] }), { optimistic: true }),
    add: (writer, weight) =>
      append(json(weight === undefined ? { addWriter: writer } : { addWriter: writer, weight: Number(weight) })),
    remove: (writer) => append(json({ removeWriter: writer })),
    rotate: async () => {
      const keyPair = await store.createKeyPair('rotated-' + auto.local.length + '-' + hex(auto.local.key))
      await auto.setLocal(null, { keyPair })
      say('rotated', { local: hex(auto.local.key), writable: auto.writable })
    },
    state: async () => {
      await auto.update()
      say('state', { local: hex(auto.local.key), localLength: auto.local.length, writable: auto.writable, view: await view() })
    },
    stats: async () => say('stats', { ...auto.stats }),
    dump: async () => {
      await auto.update()
      const order = (await auto.replay()).map((node) => node && [hex(node.key), node.length])
      const writers = []
      for await (const writer of auto.system.list()) {
        const { length, weight, maxWeight, isRemoved } = writer
        writers.push({ key: hex(writer.key), length, weight, maxWeight, isRemoved })
      }
      say('dump', { view: await view(), order, writers })
    }
  }
  say('ready', {
    key: hex(auto.key),
    local: hex(auto.local.key),
    port: at ? server.address().port : null,
    writable: auto.writable
  })
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, ...rest] = line.trim().split(' ')
    if (command === 'quit') break
    try {
      if (!commands[command]) throw new Error('unknown command: ' + command)
      await commands[command](...rest)
    } catch (error) {
      say('error', { message: String(error.stack) })
    }
  }
  for (const socket of sockets) socket.destroy()
  server.close()
  await auto.close()
  process.exit(0)
}

main().catch((error) => {
  say('error', { message: String(error.stack) })
  process.exit(1)
})
