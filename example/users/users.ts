import type { Database } from 'better-sqlite3'
import type { OidcClaims } from 'fastify-oidc'

/** The identity of a user is the issuer and the subject. An e-mail address can pass to another user. */
type Identity = Pick<OidcClaims, 'iss' | 'sub'>

export interface User {
  id: number
  name: string
}

export interface Member extends User, Identity {
  isAdmin: 0 | 1
  isBlocked: 0 | 1
}

export type Users = ReturnType<typeof createUsers>

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY,
    iss TEXT NOT NULL,
    sub TEXT NOT NULL,
    name TEXT NOT NULL,
    blocked INTEGER NOT NULL DEFAULT 0,
    UNIQUE (iss, sub)
  );
  CREATE TABLE IF NOT EXISTS roles (
    user_id INTEGER NOT NULL REFERENCES users (id),
    role TEXT NOT NULL,
    PRIMARY KEY (user_id, role)
  );
`

/** The users in a database of `node:sqlite` (`DatabaseSync`) or of better-sqlite3: both have these functions. */
export function createUsers (database: Database) {
  database.exec(SCHEMA)
  const insert = database.prepare(`
    INSERT INTO users (iss, sub, name) VALUES (?, ?, ?) ON CONFLICT (iss, sub) DO UPDATE SET name = excluded.name
  `)
  const find = database.prepare('SELECT id, name, blocked FROM users WHERE iss = ? AND sub = ?')
  const makeFirstAdmin = database.prepare(`
    INSERT INTO roles (user_id, role) SELECT ?, 'admin' WHERE NOT EXISTS (SELECT 1 FROM roles WHERE role = 'admin')
  `)
  const role = database.prepare(`
    SELECT 1 FROM users JOIN roles ON user_id = id WHERE iss = ? AND sub = ? AND role = ? AND blocked = 0
  `)
  const all = database.prepare(`
    SELECT id, iss, sub, name, blocked AS isBlocked, EXISTS (
      SELECT 1 FROM roles WHERE user_id = id AND role = 'admin'
    ) AS isAdmin FROM users ORDER BY id
  `)
  const give = database.prepare('INSERT INTO roles (user_id, role) VALUES (?, ?) ON CONFLICT DO NOTHING')
  const take = database.prepare('DELETE FROM roles WHERE user_id = ? AND role = ?')
  const block = database.prepare('UPDATE users SET blocked = ? WHERE id = ?')

  return {
    /** Creates the user at the first login, and updates the name at each login. `null`: the user is blocked. */
    logIn ({ iss, sub }: Identity, name: string): User | null {
      insert.run(iss, sub, name)
      const user = find.get(iss, sub) as User & { blocked: 0 | 1 }
      if (user.blocked === 1) return null
      makeFirstAdmin.run(user.id)
      return { id: user.id, name: user.name }
    },
    hasRole: ({ iss, sub }: Identity, name: string): boolean => role.get(iss, sub, name) !== undefined,
    list: (): Member[] => all.all() as Member[],
    giveRole: (id: number, name: string): void => { give.run(id, name) },
    takeRole: (id: number, name: string): void => { take.run(id, name) },
    setBlocked: (id: number, isBlocked: boolean): void => { block.run(isBlocked ? 1 : 0, id) }
  }
}
