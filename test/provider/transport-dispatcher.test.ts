import t from 'tap'
import { Agent } from 'undici'
import { testFaults } from '../support/transport-faults.ts'

const agent = new Agent()
t.teardown(async () => await agent.close())

testFaults({ dispatcher: agent })
