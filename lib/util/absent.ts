/**
 * For `import('a package').catch(absent)`: only with a `catch` right behind do bundlers accept that an optional package
 * is not installed.
 */
export const absent = (): undefined => undefined
