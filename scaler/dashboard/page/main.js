// What the page does: fetch the whole state once, then follow the events. Draws nothing itself.
import { Charts } from "/page/charts.js";
import { showDecisions, addDecision } from "/page/log.js";
import { showFigures } from "/page/figures.js";
import { showReplicas } from "/page/replicas.js";

const charts = new Charts(document.getElementById("charts"));
const connection = document.getElementById("connection");
const policies = document.querySelector("#policies select");
let state = null;
let events = null;
let begun = 0; // of the latest begin(); an answer to an older one comes too late

const span = () => document.querySelector("#spans input:checked").value;
const query = () => `policy=${encodeURIComponent(policies.value)}&span=${span()}`;

function said(how, text) {
  connection.dataset.state = how;
  connection.textContent = text;
}

async function begin() {
  const mine = ++begun;
  events?.close();
  try {
    const answer = await fetch(`/api/state?${query()}`);
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const told = await answer.json();
    if (mine !== begun) return;
    state = told;
    document.getElementById("policy").textContent = state.policy.name;
    document.title = `${state.policy.name} · minwatt`;
    charts.show(state, Number(span()));
    showDecisions(state.decisions, (entry) => charts.mark(entry));
    now();
    follow();
  } catch (error) {
    if (mine !== begun) return;
    said("lost", `not connected: ${error.message}`);
    setTimeout(begin, 2000);
  }
}

function follow() {
  events = new EventSource(`/api/events?${query()}`);
  events.onopen = () => said("live", "live");
  events.onerror = () => {
    // What was missed meanwhile is in the state: begin anew.
    events.close();
    said("lost", "connection lost; trying again");
    setTimeout(begin, 1000);
  };
  events.addEventListener("beat", (event) => {
    const beat = JSON.parse(event.data);
    state.moment = beat.moment;
    state.newest = beat.point;
    charts.add(beat.point);
    now();
  });
  events.addEventListener("decision", (event) => {
    const entry = JSON.parse(event.data);
    state.decisions.push(entry);
    addDecision(entry, (chosen) => charts.mark(chosen));
    charts.decisions(state.decisions);
    now();
  });
}

function now() {
  showFigures(state);
  showReplicas(state.replica_columns, state.moment);
}

async function start() {
  const names = await (await fetch("/api/policies")).json();
  policies.replaceChildren(...names.map((name) => new Option(name, name)));
  policies.parentElement.hidden = names.length < 2;
  policies.onchange = begin;
  for (const input of document.querySelectorAll("#spans input")) input.onchange = begin;
  document.addEventListener("visibilitychange", () => charts.redraw());
  matchMedia("(prefers-color-scheme: dark)").onchange = () => charts.redraw();
  await begin();
}

start().catch((error) => {
  said("lost", `not connected: ${error.message}`);
  setTimeout(() => location.reload(), 3000);
});
