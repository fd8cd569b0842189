// A peer on Hyperswarm with a corestore, beside a DHT of its own on this machine. Reads a command a line, answers each with a line.

const fs = require('fs')
const os = require('os')
const path = require('path')
const readline = require('readline')
const createTestnet = require('hyperdht/testnet')
const Hyperswarm = require('hyperswarm')
const Corestore = require('corestore')

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'autobee-swarm-'))
  const testnet = await createTestnet(3)
  const swarm = new Hyperswarm({ bootstrap: testnet.bootstrap })
  const store = new Corestore(folder)
  let connected = 0
  swarm.on('connection', (connection) => {
    connected++
    connection.on('error', () => {})
    store.replicate(connection)
  })

  const commands = {
    dht: async () => ({ port: testnet.bootstrap[0].port, peer: swarm.keyPair.publicKey.toString('hex') }),
    async join({ topic, server, client }) {
      await swarm.join(Buffer.from(topic, 'hex'), { server, client }).flushed()
      return {}
    },
    async append({ values }) {
      const core = store.get({ name: 'log' })
      await core.append(values.map((value) => Buffer.from(value)))
      return { key: core.key.toString('hex'), length: core.length }
    },
    async read({ key, index }) {
      const core = store.get({ key: Buffer.from(key, 'hex') })
      const block = await core.get(index, { timeout: 30000 })
      return { block: block.toString('hex') }
    },
    async cut() {
      for (const connection of swarm.connections) connection.destroy()
      return {}
    },
    connections: async () => ({ open: swarm.connections.size, connected })
  }

  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { command, ...options } = JSON.parse(line)
    let answer
    try {
      answer = await commands[command](options)
    } catch (error) {
      answer = { error: String(error.stack) }
    }
    console.log(JSON.stringify(answer))
  }
  fs.rmSync(folder, { recursive: true, force: true })
  process.exit(0)
}

main()
