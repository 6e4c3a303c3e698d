/** Lets a test stop a function at one point until the test continues it. */
export interface Gate {
  /** Waits until the gate is open. */
  pass: () => Promise<void>
  /** Resolves when the first caller waits at the gate. */
  reached: Promise<void>
  open: () => void
}

export function createGate (): Gate {
  let [arrive, open] = [(): void => {}, (): void => {}]
  const reached = new Promise<void>((resolve) => { arrive = resolve })
  const opened = new Promise<void>((resolve) => { open = resolve })
  return { reached, open, pass: async () => { arrive(); await opened } }
}
