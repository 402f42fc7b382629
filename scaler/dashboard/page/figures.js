// The sentence, the conditions and the figures on top: what a reader should know within a minute.
import { counted, element, joules, ms, number, percent, watts } from "/page/words.js";

const newest = (state, name) => {
  if (state.newest) return state.newest[state.columns.indexOf(name)];
  return state.history[name].at(-1) ?? null;
};

export function showFigures(state) {
  const { policy, moment } = state;
  const at = (name) => newest(state, name);
  document.getElementById("story").textContent = story(state, at);
  showConditions(moment.conditions);
  const late = at("p99_s") !== null && at("p99_s") > policy.slo_s;
  const over = policy.budget_w !== null && at("watts") !== null && at("watts") > policy.budget_w;
  const saving = moment.saving;
  show([
    ["Offered load", `${number(at("offered_rps"))} /s`, `goodput ${number(at("goodput_rps"))} /s`],
    ["p99 latency", ms(at("p99_s")), `SLO p${policy.percentile} ${ms(policy.slo_s)} · p50 ${ms(at("p50_s"))}`, late],
    ["Power", watts(at("watts")), `${budget(policy)} · ${moment.watts_source}`, over],
    ["Idle of it", watts(at("idle_w")), `by the profile: ${number(policy.idle_w)} W each, ${policy.idle_basis}`],
    ["Energy a request", joules(moment.joules_per_request), `${joules(moment.joules)} for ${number(moment.requests)} requests · ${moment.watts_source}`],
    ["Saved", saving ? percent(saving.share) : "–", saving
      ? `against ${counted(saving.fixed_replicas, "fixed replica")}, the most there were: ${joules(saving.joules)}, estimated from ${number(saving.idle_w)} W idle each`
      : "nothing is known yet"],
    ["Replicas", `${number(at("ready"))} ready`, `${number(at("desired"))} wanted · ${number(at("starting"))} starting · ${number(at("draining"))} draining · ${policy.min_replicas} to ${policy.max_replicas}`],
    ["Operating point", `batch ≤ ${number(at("max_batch_texts"))}`, `delay ≤ ${ms(at("max_delay_s"))}${at("sm_clock_mhz") ? ` · ${at("sm_clock_mhz")} MHz` : ""} · batches of ${number(moment.batch)}`],
  ]);
  document.getElementById("sources").textContent =
    `Model ${policy.model} on ${policy.device}. Watts: ${moment.watts_source}. ` +
    "Latency: at the servers, queue and compute. Idle watts and the saving: by the profile.";
}

function story(state, at) {
  const { policy, moment } = state;
  if (at("ready") === null) return "Waiting for the first second.";
  const load = at("offered_rps") === null ? "how much is asked for is not known"
    : `${number(at("offered_rps"))} requests/s`;
  const p99 = at("p99_s") === null ? "nothing was answered lately"
    : `p99 ${ms(at("p99_s"))} of ${ms(policy.slo_s)}`;
  const last = state.decisions.at(-1);
  const did = last ? ` Last decision: ${last.headline}${last.why.length ? ` – ${last.why[0]}` : ""}.` : "";
  const power = at("watts") === null ? "watts unknown" : `${watts(at("watts"))} (${moment.watts_source})`;
  return `${counted(Math.round(at("ready")), "replica")} ready for ${load}: ${p99}, ${power}.${did}`;
}

const budget = (policy) => (policy.budget_w === null ? "no budget" : `budget ${watts(policy.budget_w)}`);

function showConditions(conditions) {
  const items = conditions.map(([name, why]) => element("li", `${name}: ${why}`));
  const list = document.getElementById("conditions");
  const wanted = items.length ? items : [element("li", "all is well", { class: "good" })];
  if (list.textContent !== wanted.map((item) => item.textContent).join("")) list.replaceChildren(...wanted);
}

function show(rows) {
  const list = document.getElementById("figures");
  if (list.children.length !== rows.length) {
    list.replaceChildren(...rows.map(([name]) => {
      const box = element("div");
      box.append(element("dt", name), element("dd", "", { class: "value" }), element("dd", "", { class: "about" }));
      return box;
    }));
  }
  rows.forEach(([, value, about, broken], place) => {
    const [, figure, note] = list.children[place].children;
    if (figure.textContent !== value) figure.textContent = value;
    if (note.textContent !== about) note.textContent = about;
    figure.classList.toggle("broken", Boolean(broken));
  });
}
