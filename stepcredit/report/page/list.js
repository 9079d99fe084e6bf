// The list: one page of solutions at a time, each with its outcome and a strip of its steps.
const PAGE = 60;
const list = document.getElementById("list");

function stripe(letters) {
  const size = letters.length;
  if (size === 0) return make("span", { class: "strip", style: "background: var(--unjudged)" });
  const stops = [];
  for (let first = 0, last; first < size; first = last) {
    last = first + 1;
    while (last < size && letters[last] === letters[first]) last += 1;
    stops.push(`${toneOf(letters[first])} ${((100 * first) / size).toFixed(2)}% ${((100 * last) / size).toFixed(2)}%`);
  }
  return make("span", { class: "strip", style: `background: linear-gradient(90deg, ${stops.join(", ")})` });
}

function entry(item) {
  const outcome = index.outcome[item];
  const unknown = index.unknown[item];
  const steps = index.strip[item].length;
  const parts = [index.methods[index.method[item]]];
  if (index.round[item] !== null) parts.push("round " + index.round[item]);
  parts.push(steps === 1 ? "1 step" : steps + " steps");
  if (unknown) parts.push(unknown + " unknown");
  if (index.differs[item] !== null) parts.push("disagrees at step " + index.differs[item]);
  const button = make(
    "button",
    { type: "button", "data-item": item, "aria-current": item === state.item },
    make(
      "span",
      { class: "line" },
      make("span", { class: "mark " + outcome, title: OUTCOMES[outcome] }, OUTCOME_MARKS[outcome]),
      make("span", { class: "name" }, index.titles[index.problem[item]] || "(no text)"),
    ),
    make("span", { class: "meta" }, parts.filter((part) => part !== "").join(" · ")),
    stripe(index.strip[item]),
  );
  return make("li", {}, button);
}

function pageOf(item) {
  return Math.max(0, Math.floor(shown.indexOf(item) / PAGE));
}

let page = -1;

function drawList(wanted, fresh) {
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  const next = Math.min(Math.max(0, wanted), pages - 1);
  if (fresh || next !== page) {
    page = next;
    list.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(entry));
    list.scrollTop = 0;
  }
  for (const button of list.querySelectorAll("button")) {
    const here = Number(button.dataset.item) === state.item;
    if (here) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    if (here) button.scrollIntoView({ block: "nearest" });
  }
  const total = shown.length.toLocaleString("en");
  document.getElementById("found").textContent =
    shown.length === index.size ? `${total} solutions` : `${total} of ${index.size.toLocaleString("en")} solutions`;
  document.getElementById("pages").textContent = `page ${page + 1} of ${pages}`;
  document.getElementById("earlier").disabled = page === 0;
  document.getElementById("later").disabled = page >= pages - 1;
  document.getElementById("pager").hidden = pages === 1;
}

function options(select, first, entries) {
  select.replaceChildren(make("option", { value: "" }, first), ...entries.map(([value, name]) => make("option", { value }, name)));
  select.hidden = entries.length < 2;
  select.parentElement.hidden = [...select.parentElement.children].every((other) => other.hidden);
}

function fillFilters() {
  const rounds = [...new Set(index.round)].filter((round) => round !== null).sort((a, b) => a - b);
  options(document.getElementById("method"), "all methods", index.methods.map((name, place) => [place, name || "(none)"]));
  options(document.getElementById("round"), "all rounds", rounds.map((round) => [round, "round " + round]));
}

function showFilters() {
  for (const name of ["method", "round", "outcome", "sort"]) document.getElementById(name).value = state[name];
  const search = document.getElementById("search");
  if (document.activeElement !== search) search.value = state.q;
  document.getElementById("unknown").checked = state.unknown !== "";
  const differs = document.getElementById("differs");
  differs.checked = state.differs !== "";
  differs.parentElement.hidden = !index.labelled;
  const problem = document.getElementById("problem");
  problem.hidden = state.problem === "";
  problem.textContent = state.problem === "" ? "" : "✕ only: " + index.titles[Number(state.problem)];
}
