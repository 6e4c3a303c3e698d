import type { Figure } from './figures.ts'

/** Aligns rows of text cells: the first column to the left, the others to the right. */
export function table (rows: string[][]): string {
  const widths = columns(rows).map(column => Math.max(...column.map(cell => cell.length)))
  return rows.map(row => line(row, widths)).join('\n')
}

function columns (rows: string[][]): string[][] {
  const count = Math.max(...rows.map(row => row.length))
  return Array.from({ length: count }, (_, at) => rows.map(row => row[at] ?? ''))
}

function line (row: string[], widths: number[]): string {
  const cells = widths.map((width, at) => at === 0 ? (row[at] ?? '').padEnd(width) : (row[at] ?? '').padStart(width))
  return cells.join('  ').trimEnd()
}

/** The same rows in Markdown; the first is the head. */
export function markdown ([head = [], ...rows]: string[][]): string {
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

/** A median with the quartiles. */
export function spread ({ low, median, high }: Figure, digits = 2): string {
  return `${fixed(median, digits)} (${fixed(low, digits)}–${fixed(high, digits)})`
}

export function fixed (value: number, digits = 0): string {
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}
