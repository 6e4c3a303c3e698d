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
