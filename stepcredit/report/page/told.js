// What the judge wrote: rationales beside the steps they speak of, code with its real output, and how votes are spread.
const LONG = 420;
const KINDS = { written: "", forced: "", code: "code the judge wrote", output: "what running it gave" };

function passageNode([kind, text, , status]) {
  const name = [KINDS[kind], status].filter((part) => part).join(" · ");
  const body = make(kind === "code" || kind === "output" ? "pre" : "p", {}, kind === "written" || kind === "forced" ? text.trim() : text);
  const bad = kind === "output" && status && status !== "ok";
  return make("div", { class: "passage " + kind + (bad ? " bad" : "") }, name && (kind !== "forced" || status) ? make("span", { class: "kind" }, name) : null, body);
}

// Scores as they are written beside a step: enough digits, none too many.
function scoreText(value) {
  return value === 0 || value === 1 ? String(value) : value.toFixed(2);
}

function sizeOf(parts) {
  return parts.reduce((sum, part) => sum + part[1].length, 0);
}

// One vote: a line that says which and what it says; its text is made when it is opened.
function voteNode(vote, parts, score, open) {
  const facts = [vote.verdict, score === undefined ? "" : score === null ? "no score" : "score " + scoreText(score), vote.status];
  const line = make("summary", {}, make("b", {}, vote.name), " " + facts.filter((fact) => fact).join(" · "));
  const node = make("details", { class: "vote" }, line);
  const fill = () => { if (node.children.length === 1) node.append(...parts.map(passageNode)); };
  if (open) {
    fill();
    node.open = true;
  } else node.addEventListener("toggle", fill, { once: true });
  node.addEventListener("click", (event) => event.stopPropagation());
  return node;
}

// The votes that speak of one step (or, for `null`, of the solution as a whole), each with its own passages alone.
function rationalesOf(solution, number) {
  const found = [];
  for (const vote of solution.told || []) {
    const parts = vote.parts.filter((part) => part[2] === number);
    if (parts.length) found.push([vote, parts, number === null ? undefined : vote.scores[number - vote.first]]);
  }
  if (!found.length) return null;
  const open = found.length === 1 && sizeOf(found[0][1]) <= LONG;
  const nodes = found.map(([vote, parts, score]) => voteNode(vote, parts, score, open));
  if (nodes.length === 1) return make("div", { class: "told" }, nodes[0]);
  const line = make("summary", {}, `what the judge wrote, ${nodes.length} votes`);
  const all = make("details", { class: "votes" }, line, ...nodes);
  all.addEventListener("click", (event) => event.stopPropagation());
  return make("div", { class: "told" }, all);
}

function overview(solution) {
  const node = rationalesOf(solution, null);
  if (node) node.prepend(make("span", { class: "kind" }, "the judge on the whole solution"));
  return node;
}

// Votes that score a step unseen, because what they wrote had ended before it.
function unseen(solution, number) {
  const scores = (vote) => vote.scores[number - vote.first] !== null && vote.scores[number - vote.first] !== undefined;
  const bySteps = (vote) => vote.parts.some((part) => part[2] !== null) && !vote.parts.some((part) => part[2] === number);
  return (solution.told || []).filter((vote) => scores(vote) && bySteps(vote)).length;
}

function votesNode(solution, step, place) {
  if (!step.votes) return null;
  const [number, wrong, silent, low, mean, high] = step.votes;
  if (number + silent < 2) return null;
  const [left, middle, right] = step.spread.map((place) => (100 * place).toFixed(1) + "%");
  const bar = make("u", { class: "spread" }, make("i", { style: `left:${left};right:calc(100% - ${right})` }), make("b", { style: `left:${middle}` }));
  const blind = unseen(solution, place);
  const facts = [`${wrong} of ${number} vote${number === 1 ? " says" : "s say"} wrong`, silent && `${silent} without a score`, blind && `${blind} had stopped before it`];
  const same = low === high;
  const numbers = same ? `all ${scoreText(low)}` : `min ${scoreText(low)} · mean ${scoreText(mean)} · max ${scoreText(high)}`;
  return make("div", { class: "ballot" }, make("span", {}, facts.filter((fact) => fact).join(", ")), same ? null : bar, make("small", {}, numbers));
}

function labelNode(step, first) {
  if (step.truth === undefined) return null;
  const said = step.truth ? "label ✓ right" : "label ✗ wrong";
  const differs = step.differs ? make("em", {}, first ? "first disagreement" : "disagrees") : null;
  return make("div", { class: "label" + (step.differs ? " differs" : "") }, make("span", {}, said), differs);
}
