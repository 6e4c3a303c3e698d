/* global location */

const element = (id) => document.getElementById(id)

/** Who is logged in, or `null`. The question does not prolong the session. */
async function session () {
  const response = await fetch('/auth/session')
  return response.ok ? await response.json() : null
}

/** The login is a page: the browser must go there. `fetch` of it would be refused. */
function logIn (login) {
  const url = new URL(login, location.href)
  url.searchParams.set('return_to', location.pathname)
  location.assign(url)
}

/** Calls the API. When it wants a login, or a newer one, the browser goes there and comes back. */
async function call (method, body) {
  const headers = body === undefined ? {} : { 'content-type': 'application/json' }
  const response = await fetch('/api/notes', { method, headers, body: JSON.stringify(body) })
  const answer = await response.json()
  if (response.status === 401) return logIn(answer.login)
  if (!response.ok) return show(answer.message)
  element('list').replaceChildren(...answer.map((note) => Object.assign(document.createElement('li'), { textContent: note })))
}

async function logOut () {
  const response = await fetch('/auth/logout', { method: 'POST' })
  const { redirect_to } = await response.json()
  // Ends the session at the provider as well.
  location.assign(redirect_to)
}

function show (text) {
  element('answer').textContent = text
  element('answer').hidden = false
}

element('log-in').addEventListener('click', () => logIn('/auth/login'))
element('log-out').addEventListener('click', logOut)
element('delete').addEventListener('click', () => call('DELETE'))
element('try').addEventListener('click', async () => {
  const response = await fetch('/api/notes')
  show(`${response.status} ${response.statusText}\n${JSON.stringify(await response.json(), null, 2)}`)
})
element('add').addEventListener('submit', async (event) => {
  event.preventDefault()
  await call('POST', { text: element('text').value })
  element('text').value = ''
})

const current = await session()
element(current === null ? 'anonymous' : 'notes').hidden = false
if (current !== null) {
  element('user').textContent = current.claims.name ?? current.claims.sub
  element('log-out').hidden = false
  await call('GET')
}
