// One line for each replica: what needs a look first, then by name, as the server sends them.
import { DASH, element, number } from "/page/words.js";

const COLUMNS = [
  ["replica", (row) => row.name, "word"],
  ["state", (row) => row.state, "word"],
  ["requests/s", (row) => number(row.rps)],
  ["p99 ms", (row) => number(row.p99_ms)],
  ["busy", (row) => (row.busy_fraction === null ? DASH : `${Math.round(row.busy_fraction * 100)} %`)],
  ["batch", (row) => number(row.batch_texts)],
  ["waiting texts", (row) => number(row.queue_texts)],
  ["in flight", (row) => number(row.in_flight)],
  ["W", (row) => (row.watts === null ? DASH : `${number(row.watts)} (${row.watts_source})`)],
  ["variant", (row) => row.variant || DASH, "word"],
  ["MHz", (row) => number(row.sm_clock_mhz)],
  ["heard s ago", (row) => number(row.age_s)],
];
const table = document.getElementById("replicas");
const note = document.getElementById("replicas-note");

export function showReplicas(columns, moment) {
  const rows = moment.replicas.map((values) => Object.fromEntries(columns.map((name, place) => [name, values[place]])));
  if (!table.tHead) {
    table.createTHead().insertRow().append(...COLUMNS.map(([name]) => element("th", name, { scope: "col" })));
    table.append(element("tbody"));
  }
  const body = table.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, place) => fill(body.rows[place] ?? newRow(body), row));
  const hidden = moment.replicas_all - moment.replicas.length;
  note.textContent = hidden > 0 ? `${moment.replicas.length} of ${moment.replicas_all}: those that need a look first.` : "";
}

function newRow(body) {
  const line = body.insertRow();
  COLUMNS.forEach(([, , kind], place) => {
    line.append(place ? element("td", "", { class: kind ?? "" }) : element("th", "", { scope: "row" }));
  });
  return line;
}

function fill(line, row) {
  COLUMNS.forEach(([name, text], place) => {
    const cell = line.cells[place];
    const now = text(row);
    if (cell.textContent !== now) cell.textContent = now;
    if (name === "state") cell.className = `word ${row.state}`;
  });
}
