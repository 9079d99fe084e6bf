// One solution: head, map of the whole completion, thoughts with their steps, verdicts in the margin.
const article = document.getElementById("solution");
const SVG = "http://www.w3.org/2000/svg";
let coloured = true;
let opened = null;

function draw(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function signed(value) {
  return value === null || value === undefined ? "none" : (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(3);
}

function counted(number, solution) {
  return `${number.toLocaleString("en")} ${solution.unit}${number === 1 ? "" : "s"}`;
}

function head(solution, item) {
  const outcome = index.outcome[item];
  const answer = solution.answer === null ? "no answer read" : solution.answer;
  const others = index.problem.reduce((count, problem) => count + (problem === index.problem[item]), 0) - 1;
  const chips = [
    make("span", { class: "badge " + outcome }, `${OUTCOME_MARKS[outcome]} ${OUTCOMES[outcome]}`),
    make("span", { class: "chip" }, "answer ", make("b", {}, answer)),
    make("span", { class: "chip" }, "reference ", make("b", {}, solution.reference === null ? "none known" : solution.reference)),
  ];
  const method = index.methods[index.method[item]];
  if (method) chips.push(make("span", { class: "chip" }, make("b", {}, method), index.round[item] === null ? "" : ` · round ${index.round[item]}`));
  chips.push(make("span", { class: "chip" }, counted(solution.tokens, solution)));
  if (solution.finish !== "stop") chips.push(make("span", { class: "chip" }, { length: "cut by length", open: "not finished" }[solution.finish]));
  if (solution.judge) chips.push(make("span", { class: "chip", title: solution.judge }, "judge ", make("b", {}, article.dataset.judge || solution.judge_name.slice(0, 40))));
  const differs = index.differs[item];
  if (differs !== null) {
    const jump = make("button", { class: "chip differs", type: "button", title: "d" }, `judge and label disagree first at step ${differs}`);
    jump.addEventListener("click", () => selectStep(differs));
    chips.push(jump);
  }
  if (others > 0 && state.problem === "") {
    const more = make("button", { class: "chip", type: "button", title: "p" }, `${others.toLocaleString("en")} more of this problem`);
    more.addEventListener("click", () => go({ problem: String(index.problem[item]) }));
    chips.push(more);
  }
  return make("div", { class: "head" }, ...chips);
}

function remarks(solution) {
  const rule = solution.rules[state.rule];
  const lines = [solution.outcome_reason, solution.note];
  if (rule && !rule[1]) lines.push(`${rule[0]}: left out of training${rule[2] ? ", " + rule[2] : ""}`);
  else if (rule && rule[2]) lines.push(`${rule[0]}: ${rule[2]}`);
  return lines.filter((line) => line).map((line) => make("p", { class: "remark" }, line));
}

// The map: a band of step tones over the tokens, and the advantage along them.
function mapOf(solution, letters) {
  const total = solution.steps.reduce((sum, step) => sum + step.p.reduce((n, piece) => n + piece[1], 0), 0) || 1;
  const box = draw("svg", { class: "map", viewBox: "0 0 1000 62", preserveAspectRatio: "none", role: "img", "aria-label": "steps and advantages along the solution" });
  const areas = [];
  let token = 0;
  solution.steps.forEach((step, number) => {
    const first = token;
    for (const piece of step.p) {
      const value = piece[2 + state.rule];
      const last = areas[areas.length - 1];
      if (last && last[1] === token && last[2] === value) last[1] += piece[1];
      else if (value) areas.push([token, token + piece[1], value]);
      token += piece[1];
    }
    const gap = solution.steps.length < 150 ? 1.2 : 0;
    const width = Math.max(0.6, (1000 * (token - first)) / total - gap);
    const cell = draw("rect", { x: (1000 * first) / total, y: 0, width, height: 13, rx: 1.5, style: `fill:${toneOf(letters[number])}`, "data-step": number });
    box.append(cell);
    if (step.differs) box.append(draw("rect", { class: "differs", x: (1000 * first) / total, y: 13.2, width, height: 1.8 }));
  });
  if (solution.rules.length) {
    const height = (value) => (21 * Math.min(1, Math.abs(value) / (index.peak || 1)));
    box.append(draw("line", { class: "zero", x1: 0, x2: 1000, y1: 39, y2: 39 }));
    for (const [first, last, value] of areas) {
      const tall = height(value);
      box.append(draw("rect", { class: value > 0 ? "area-pos" : "area-neg", x: (1000 * first) / total, width: (1000 * (last - first)) / total, y: value > 0 ? 39 - tall : 39, height: tall }));
    }
  } else {
    box.setAttribute("viewBox", "0 0 1000 15");
    box.style.height = "15px";
  }
  box.addEventListener("click", (event) => {
    const place = (event.clientX - box.getBoundingClientRect().left) / box.getBoundingClientRect().width;
    selectStep(stepAt(solution, place * total));
  });
  return box;
}

function stepAt(solution, token) {
  let seen = 0;
  for (let number = 0; number < solution.steps.length; number += 1) {
    for (const piece of solution.steps[number].p) seen += piece[1];
    if (token < seen) return number;
  }
  return solution.steps.length - 1;
}

function under(solution, letters) {
  const parts = [];
  if (solution.rules.length) {
    const buttons = solution.rules.map((rule, number) => {
      const button = make("button", { type: "button", "aria-pressed": String(number === state.rule), title: String(number + 1) }, rule[0]);
      button.addEventListener("click", () => go({ rule: number }));
      return button;
    });
    const peak = (index.peak || 0).toFixed(2);
    parts.push(make("span", {}, "credit ", make("span", { class: "tabs" }, ...buttons)));
    parts.push(make("span", { class: "scale", title: `advantage of a ${solution.unit}` }, "−" + peak, make("i", {}), "+" + peak));
  }
  const seen = [...new Set(letters)].filter((letter) => LABELS[letter]);
  if (/[0-9]/.test(letters)) parts.push(make("span", { class: "scale" }, "score low", make("i", { class: "scores" }), "high"));
  for (const letter of "cimnu-") if (seen.includes(letter)) parts.push(make("span", { class: "legend tone-" + letter }, LABELS[letter].name));
  return make("div", { class: "under" }, ...parts);
}

// A step's last line ends are shown as one sign, so that a paragraph takes no empty lines.
function endings(pieces) {
  let open = true;
  return pieces.map((piece) => piece[0]).reduceRight((texts, text) => {
    const cut = open ? text.trimEnd() : text;
    if (cut !== "") open = false;
    texts.unshift(cut + (text.slice(cut.length).includes("\n") ? " ⏎" : ""));
    return texts;
  }, []);
}

function piecesOf(step) {
  const texts = endings(step.p);
  return step.p.map((piece, number) => {
    const [, tokens, ...given] = piece;
    const values = given.slice(0, opened.rules.length);
    const value = values[state.rule];
    const node = make("span", {}, texts[number]);
    if (value) {
      const share = Math.min(1, Math.abs(value) / (index.peak || 1));
      node.className = value > 0 ? "pos" : "neg";
      node.style.setProperty("--a", (7 + 50 * share).toFixed(1) + "%");
    }
    if (values.length) node.tip = opened.rules.map((rule, number) => `${rule[0]} ${signed(values[number])}`).join("\n") + "\n" + counted(tokens, opened);
    return node;
  });
}

function verdictOf(step, letter, number, first) {
  const parts = [];
  if (LABELS[letter] && letter !== "-") parts.push(make("div", { class: "say" }, make("i", {}, LABELS[letter].mark), LABELS[letter].name));
  const told = LABELS[letter] && (step.at === 0 || step.at === 1); // such a score says what the label says
  if (step.v !== undefined && !told) parts.push(make("div", { class: "score" }, step.v.toFixed(3), make("u", { style: `--w:${100 * step.at}%` })));
  if (step.why) parts.push(make("p", {}, step.why));
  for (const node of [votesNode(opened, step, number), labelNode(step, first)]) if (node) parts.push(node);
  return make("div", { class: "verdict" }, ...parts);
}

function stepNode(step, number, letter) {
  const first = index.differs[state.item] === number;
  const tone = letter >= "0" && letter <= "9" ? `--tone:${toneOf(letter)}` : null;
  const node = make(
    "div",
    { class: "step tone-" + letter + (first ? " first-differs" : ""), "data-step": number, style: tone },
    make("span", { class: "at" }, String(number)),
    make("div", { class: "text" }, ...piecesOf(step)),
    verdictOf(step, letter, number, first),
    rationalesOf(opened, number),
  );
  node.addEventListener("click", () => selectStep(number, false));
  return node;
}

function thoughtNodes(solution, letters) {
  const nodes = [];
  let answered = false;
  let count = 0;
  for (let first = 0, last; first < letters.length; first = last) {
    last = first + 1;
    const merges = "cimn".includes(letters[first]);
    while (merges && last < letters.length && letters[last] === letters[first]) last += 1;
    count += 1;
    const steps = [];
    for (let number = first; number < last; number += 1) {
      if (solution.steps[number].answer && !answered) {
        answered = true;
        (number === first ? nodes : steps).push(make("div", { class: "block" }, "answer block"));
      }
      steps.push(stepNode(solution.steps[number], number, letters[number]));
    }
    const tokens = solution.steps.slice(first, last).reduce((sum, step) => sum + step.p.reduce((n, piece) => n + piece[1], 0), 0);
    const title = make("header", {}, make("b", {}, `thought ${count} · ${LABELS[letters[first]] ? LABELS[letters[first]].name : ""}`), `${last - first} steps, ${counted(tokens, solution)}`);
    const tone = letters[first] >= "0" && letters[first] <= "9" ? `--tone:${toneOf(letters[first])}` : null;
    nodes.push(make("section", { class: "thought tone-" + letters[first], style: tone }, last - first > 1 ? title : null, ...steps));
  }
  return nodes;
}

function drawSolution() {
  const item = state.item;
  if (!shown.includes(item)) {
    opened = null;
    article.replaceChildren(make("p", { class: "nothing" }, "No solution matches these filters."));
    return;
  }
  const solution = (opened = solutionAt(item));
  const letters = index.strip[item];
  state.rule = Math.min(state.rule, Math.max(0, solution.rules.length - 1));
  article.className = coloured ? "coloured" : "";
  article.replaceChildren(
    head(solution, item),
    make("p", { class: "statement" }, solution.problem),
    ...remarks(solution),
    make("div", { class: "bar" }, mapOf(solution, letters), under(solution, letters)),
    ...[overview(solution)].filter((node) => node !== null),
    ...thoughtNodes(solution, letters),
  );
  selectStep(state.step, false);
}

function selectStep(number, scroll = true) {
  if (!opened || !opened.steps.length) return;
  state.step = Math.min(Math.max(0, number), opened.steps.length - 1);
  for (const node of article.querySelectorAll(".step[aria-current]")) node.removeAttribute("aria-current");
  const here = article.querySelector(`.step[data-step="${state.step}"]`);
  here.setAttribute("aria-current", "true");
  if (scroll) here.scrollIntoView({ block: "nearest" });
  for (const cell of article.querySelectorAll(".map [data-step]")) cell.classList.toggle("here", Number(cell.dataset.step) === state.step);
  remember();
}
