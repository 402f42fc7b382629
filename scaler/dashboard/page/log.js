// The decisions as a list of buttons, the newest first. Each is chosen by mouse or key, and shown on the curves.
import { clock, element } from "/page/words.js";

const MOST = 200;
const list = document.querySelector("#log ol");

export function showDecisions(entries, choose) {
  list.replaceChildren(...entries.slice(-MOST).reverse().map((entry) => item(entry, choose)));
}

export function addDecision(entry, choose) {
  list.prepend(item(entry, choose));
  // The figures change each second: of them a screen reader is told nothing, of decisions everything.
  document.getElementById("announced").textContent = `${entry.headline}: ${entry.why[0] ?? ""}`;
  while (list.children.length > MOST) list.lastChild.remove();
}

function item(entry, choose) {
  const button = element("button", "", { type: "button", "aria-pressed": "false", "data-action": entry.action });
  button.append(
    element("time", clock(entry.at_s), { datetime: new Date(entry.at_s * 1e3).toISOString() }),
    element("strong", entry.headline),
    element("em", entry.why.join("; ")),
  );
  button.onclick = () => {
    const off = button.getAttribute("aria-pressed") === "true";
    for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", String(!off));
    choose(off ? null : entry);
  };
  const line = element("li", "", { value: entry.number });
  line.append(button);
  return line;
}
