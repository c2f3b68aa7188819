// What can be seen of a terminal of xterm.js, in Node.js as in a browser: this function names nothing
// from outside of itself, so that its text can be sent to a page.

/** Everything that can be seen: characters, colours, attributes, the cursor. */
export function look(term) {
  const { active } = term.buffer;
  const lines = [];
  const rows = [];
  for (let y = 0; y < term.rows; y += 1) {
    const line = active.getLine(active.baseY + y);
    lines.push((line?.translateToString(true) ?? "").trimEnd());
    let row = "";
    let last = "";
    for (let x = 0; line && x < term.cols; x += 1) {
      const cell = line.getCell(x);
      // Of a blank only the ground is seen, unless it is drawn on.
      const isBlank = !cell.getChars().trim() && !cell.isInverse() && !cell.isUnderline();
      const ink = [cell.getFgColorMode(), cell.getFgColor(), cell.isBold(), cell.isDim()];
      const dress = [
        ...(isBlank ? [0, -1, 0, 0] : ink),
        cell.getBgColorMode(),
        cell.getBgColor(),
        cell.isUnderline(),
        cell.isInverse(),
      ].join();
      row += (dress === last ? "" : `<${dress}>`) + (cell.getChars() || " ");
      last = dress;
    }
    rows.push(row.trimEnd());
  }
  return { text: lines.join("\n"), seen: JSON.stringify([active.type, active.cursorX, active.cursorY, lines, rows]) };
}
