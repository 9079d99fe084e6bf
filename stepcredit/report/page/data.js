// The data: a small index in columns, and chunks of whole solutions that are parsed when one of theirs is opened.
// All text of models and people reaches the page through textContent, never as HTML.
const index = JSON.parse(document.getElementById("index").textContent);
const parsed = new Map();
const KEPT_CHUNKS = 40;

const LABELS = {
  c: { name: "correct", mark: "✓" },
  i: { name: "incorrect", mark: "✗" },
  m: { name: "matched", mark: "=" },
  n: { name: "mismatched", mark: "≠" },
  u: { name: "unknown", mark: "?" },
  "-": { name: "not judged", mark: "" },
};
const OUTCOMES = { r: "right", w: "wrong", u: "unscorable" };
const OUTCOME_MARKS = { r: "✓", w: "✗", u: "?" };

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "style") node.style.cssText = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

function chunkOf(number) {
  let chunk = parsed.get(number);
  if (!chunk) {
    chunk = JSON.parse(document.getElementById("chunk-" + number).textContent);
    if (parsed.size >= KEPT_CHUNKS) parsed.delete(parsed.keys().next().value);
    parsed.set(number, chunk);
  }
  return chunk;
}

function solutionAt(item) {
  return chunkOf(Math.floor(item / index.chunk))[item % index.chunk];
}

function textOf(solution) {
  const steps = solution.steps.map((step) => step.p.map((piece) => piece[0]).join("")).join("");
  return (solution.id + "\n" + solution.problem + "\n" + steps).toLowerCase();
}

// What a letter of a step strip looks like: a label's tone, or a score between orange, grey and blue.
function toneOf(letter) {
  if (letter >= "0" && letter <= "9") {
    const place = Number(letter) / 9;
    const side = place < 0.5 ? "--incorrect" : "--correct";
    const strength = Math.round(Math.abs(place - 0.5) * 200);
    return `color-mix(in srgb, var(${side}) ${strength}%, var(--unjudged))`;
  }
  return { c: "var(--correct)", i: "var(--incorrect)", m: "var(--matched)", n: "var(--mismatched)", u: "var(--unknown)" }[letter] || "var(--unjudged)";
}

function isError(letter) {
  return letter === "i" || letter === "n" || (letter >= "0" && letter <= "4");
}

// Filters. `state` is what the address keeps.
const state = { view: "results", q: "", method: "", round: "", outcome: "", unknown: "", differs: "", problem: "", sort: "", item: 0, step: 0, rule: 0 };
let shown = [];

function matches(item) {
  if (state.method !== "" && index.method[item] !== Number(state.method)) return false;
  if (state.round !== "" && index.round[item] !== Number(state.round)) return false;
  if (state.outcome !== "" && index.outcome[item] !== state.outcome) return false;
  if (state.problem !== "" && index.problem[item] !== Number(state.problem)) return false;
  if (state.differs !== "" && index.differs[item] === null) return false;
  return state.unknown === "" || index.unknown[item] > 0;
}

function errorsOf(item) {
  let count = 0;
  for (const letter of index.strip[item]) if (isError(letter)) count += 1;
  return count;
}

const ORDERS = {
  errors: errorsOf,
  unknown: (item) => index.unknown[item],
  steps: (item) => index.strip[item].length,
};

function choose() {
  const found = [];
  for (let item = 0; item < index.size; item += 1) if (matches(item)) found.push(item);
  const words = state.q.trim().toLowerCase();
  shown = words === "" ? found : found.filter((item) => textOf(solutionAt(item)).includes(words));
  const weight = ORDERS[state.sort];
  if (weight) {
    const weights = new Map(shown.map((item) => [item, weight(item)]));
    shown.sort((a, b) => weights.get(b) - weights.get(a) || a - b);
  }
}
