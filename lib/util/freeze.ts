/** Freezes a value of JSON, and all that is in it: requests share it. */
export function freeze<T> (value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze)
  return value
}
