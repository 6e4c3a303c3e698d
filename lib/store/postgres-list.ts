import { TAGS } from './postgres-table.ts'

/**
 * Queries for the entries with a tag. Their parameters: the tag, the time, the key to begin after, how many.
 */

/**
 * For a table with an index for each place of a tag: walks these indexes from one key to the next. A step reads one
 * entry, so the plan is the same whatever the planner knows or believes about the table: with `ORDER BY key LIMIT 1000`
 * it may find all entries with the tag and sort them, for each thousand of them.
 */
export function listByKey (table: string): string {
  // The range of a row, and not an equation, so that no other index has this order.
  const next = (place: number, after: string): string => {
    const tag = `tags[${place}] COLLATE "C"`
    return `(SELECT key, value FROM ${table} AS e
      WHERE (${tag}, e.key) > ($1, ${after}) AND ${tag} <= $1 AND tags[${place}] IS NOT NULL AND expires_at > $2
      ORDER BY ${tag}, e.key LIMIT 1)`
  }
  const walks = TAGS.map((place) => `walk${place} AS (
    ${next(place, '$3')}
    UNION ALL
    SELECT next.key, next.value FROM walk${place} AS last CROSS JOIN LATERAL ${next(place, 'last.key')} AS next
  )`)
  const found = TAGS.map((place) => `(SELECT key, value FROM walk${place} LIMIT $4)`)
  return `WITH RECURSIVE ${walks.join(', ')}
    SELECT DISTINCT ON (key) key, value FROM (${found.join(' UNION ALL ')}) AS found ORDER BY key LIMIT $4`
}

/** For a table of an earlier version, which has one index for all tags. */
export function listByTag (table: string): string {
  return `SELECT key, value FROM ${table}
    WHERE tags @> ARRAY[$1] AND expires_at > $2 AND key > $3 ORDER BY key LIMIT $4`
}
