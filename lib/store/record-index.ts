import type { EntryName } from './sealed-store.ts'

/** Finds records in the store by the values of their fields. */
export interface RecordIndex<R, F extends string> {
  /** The tags of a record: one for each field that has a value. */
  tagsOf: (record: R) => EntryName[]
  /** The tag to search by: the one of the filter's fields that the fewest records share. */
  tagFor: (filter: RecordFilter<F>) => EntryName
  /** Whether a record has all values of the filter. */
  fits: (record: R, filter: RecordFilter<F>) => boolean
}

export type RecordFilter<F extends string> = { [Field in F]?: string | undefined }

/** `fields` begin with those that the fewest records share. `valuesOf` reads their values from a record. */
export function createRecordIndex<R, F extends string> (
  kind: string,
  fields: readonly F[],
  valuesOf: (record: R) => RecordFilter<F>
): RecordIndex<R, F> {
  const tag = (field: F, value: string): EntryName => [kind, field, value]
  return {
    tagsOf (record) {
      const values = valuesOf(record)
      return fields.flatMap((field) => values[field] === undefined ? [] : [tag(field, values[field])])
    },

    tagFor (filter) {
      const field = fields.find((name) => filter[name] !== undefined) as F
      return tag(field, filter[field] as string)
    },

    fits (record, filter) {
      const values = valuesOf(record)
      return fields.every((field) => filter[field] === undefined || filter[field] === values[field])
    }
  }
}
