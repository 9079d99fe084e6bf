// State in the address, keys, theme, and the start.
const KEYS_OF_STATE = ["q", "method", "round", "outcome", "unknown", "differs", "problem", "sort", "item", "step", "rule"];
const hasSolutions = index.size > 0;
const hasResults = document.querySelector("#results .counts, #results table, #results .plots, #results .closing, #results .facts") !== null;

function remember() {
  const parts = KEYS_OF_STATE.filter((name) => state[name] !== "" && state[name] !== 0).map((name) => `${name}=${encodeURIComponent(state[name])}`);
  const address = "#" + state.view + (state.view === "solutions" && parts.length ? "?" + parts.join("&") : "");
  if (location.hash !== address) history.replaceState(null, "", address);
}

function recall() {
  const [view, query] = location.hash.slice(1).split("?");
  const first = hasResults || !hasSolutions ? "results" : "solutions";
  const there = { results: true, solutions: hasSolutions, xray: document.getElementById("xray") !== null };
  state.view = there[view] === true ? view : first;
  const given = new URLSearchParams(query || "");
  for (const name of KEYS_OF_STATE) {
    if (["item", "step", "rule"].includes(name)) {
      const number = Math.floor(Number(given.get(name) || 0));
      state[name] = Number.isFinite(number) && number >= 0 ? number : 0;
    } else if (given.has(name)) state[name] = given.get(name);
  }
}

function showView() {
  for (const name of ["results", "xray", "solutions"]) {
    const section = document.getElementById(name);
    const tab = document.getElementById("tab-" + name);
    if (section) section.hidden = state.view !== name;
    if (tab && state.view === name) tab.setAttribute("aria-current", "page");
    else if (tab) tab.removeAttribute("aria-current");
  }
}

// Change the state and show it: filters choose anew, an item opens at its first step.
function go(change) {
  const item = state.item;
  Object.assign(state, change);
  if (!hasSolutions) return;
  const filtered = ["q", "method", "round", "outcome", "unknown", "differs", "problem", "sort"].some((name) => name in change);
  if (filtered) choose();
  if (filtered && !shown.includes(state.item) && shown.length) state.item = shown[0];
  if (state.item !== item && !("step" in change)) state.step = 0;
  showFilters();
  drawList(pageOf(state.item), filtered);
  drawSolution();
  if (state.item !== item) article.scrollTop = 0;
  remember();
}

function move(by) {
  const place = shown.indexOf(state.item) + by;
  if (place >= 0 && place < shown.length) go({ item: shown[place] });
}

function turnRound(by) {
  const values = [...document.getElementById("round").options].map((option) => option.value).filter((value) => value !== "");
  if (!values.length) return;
  const now = state.round === "" ? String(index.round[state.item]) : state.round;
  const next = values.indexOf(now) + (state.round === "" ? 0 : by);
  if (next >= 0 && next < values.length) go({ round: values[next] });
}

function nextStep(wanted) {
  const letters = index.strip[state.item] || "";
  for (let offset = 1; offset <= letters.length; offset += 1) {
    const number = (state.step + offset) % letters.length;
    if (wanted(letters[number])) return selectStep(number);
  }
  return undefined;
}

// Open what the judge wrote about the selected step, or close it.
function turnTold() {
  const votes = [...article.querySelectorAll(".step[aria-current] .told > details")];
  const open = !votes.every((node) => node.open);
  for (const node of votes) node.open = open;
}

function turnTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme.trim() === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("stepcredit-theme", document.documentElement.dataset.theme); } catch { /* a page from disk may have no storage */ }
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  l: () => selectStep(state.step + 1),
  h: () => selectStep(state.step - 1),
  e: () => nextStep(isError),
  u: () => nextStep((letter) => letter === "u"),
  d: () => { if (index.differs[state.item] !== null) selectStep(index.differs[state.item]); },
  o: () => turnTold(),
  "]": () => turnRound(1),
  "[": () => turnRound(-1),
  p: () => go({ problem: state.problem === "" ? String(index.problem[state.item]) : "" }),
  c: () => { coloured = !coloured; article.classList.toggle("coloured", coloured); },
  "/": () => document.getElementById("search").focus(),
};
KEYS.ArrowRight = KEYS.l;
KEYS.ArrowLeft = KEYS.h;

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], select, dialog *");
  if (event.key === "Escape" && typing) return event.target.blur();
  if (typing) return undefined;
  if (event.key === "t") return turnTheme();
  if (event.key === "?") return document.getElementById("help").showModal();
  if (state.view !== "solutions" || !hasSolutions) return undefined;
  if (event.key >= "1" && event.key <= "9") {
    if (opened && Number(event.key) <= opened.rules.length) go({ rule: Number(event.key) - 1 });
    return undefined;
  }
  if (!KEYS[event.key]) return undefined;
  event.preventDefault();
  return KEYS[event.key]();
}

function listen() {
  const byId = (name) => document.getElementById(name);
  for (const name of ["method", "round", "outcome", "sort"]) byId(name).addEventListener("change", (event) => go({ [name]: event.target.value }));
  for (const name of ["unknown", "differs"]) byId(name).addEventListener("change", (event) => go({ [name]: event.target.checked ? "1" : "" }));
  byId("problem").addEventListener("click", () => go({ problem: "" }));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  let waiting = 0;
  byId("search").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => go({ q: event.target.value }), 180);
  });
  byId("earlier").addEventListener("click", () => drawList(page - 1, false));
  byId("later").addEventListener("click", () => drawList(page + 1, false));
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-item]");
    if (button) go({ item: Number(button.dataset.item) });
  });
  const tip = make("div", { id: "tip", hidden: true });
  document.body.append(tip);
  article.addEventListener("mousemove", (event) => {
    const text = event.target.tip;
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8) + "px";
  });
  article.addEventListener("mouseleave", () => { tip.hidden = true; });
}

function start() {
  recall();
  showView();
  if (hasSolutions) {
    choose();
    if (!shown.includes(state.item) && shown.length) state.item = shown[0];
    showFilters();
    drawList(pageOf(state.item), true);
    drawSolution();
  }
}

try {
  const theme = localStorage.getItem("stepcredit-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* a page from disk may have no storage */ }
if (hasSolutions) {
  fillFilters();
  listen();
}
document.addEventListener("keydown", onKey);
document.getElementById("theme").addEventListener("click", turnTheme);
document.getElementById("keys").addEventListener("click", () => document.getElementById("help").showModal());
addEventListener("hashchange", start);
start();
document.documentElement.dataset.ready = "yes";
