// What became of a message: asked for once, when somebody wants to know.

import { micros } from "./format.js";
import { make } from "./tables.js";

// Fills `place` with the answer of `ask(path)` about the message.
export async function trace(place, ask, id) {
  place.replaceChildren(make("p", { className: "quiet", textContent: "Asking the nodes" }));
  try {
    const answer = await ask(`/v1/trace/${encodeURIComponent(id)}`);
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const { messages, silent, notes } = await answer.json();
    const said = messages.length === 0 ? [make("p", { textContent: "No node that was asked knows of this message, or may say so." })] : messages.map(show);
    const names = silent.map(({ name }) => name).join(", ");
    const more = [...notes, ...(names ? [`No answer from ${names}.`] : [])];
    place.replaceChildren(...said, ...more.map((note) => make("p", { className: "quiet", textContent: note })));
  } catch (error) {
    place.replaceChildren(make("p", { textContent: `There is no trace: ${error.message}` }));
  }
}

function show({ verdict, cure, topic, origin, steps, failed_at }) {
  const about = [topic && `Topic ${topic}`, `published at ${origin.name}${origin.institution ? ` of ${origin.institution}` : ""}`];
  const list = make("ol", { className: "steps" });
  steps.forEach((step, i) => {
    const give = step.give_or_take_us > 0 ? ` ± ${micros(step.give_or_take_us)}` : "";
    const item = make("li", {}, make("b", { textContent: step.node.name }), make("span", { className: "quiet", textContent: ` after ${micros(step.at_us)}${give}` }), make("br"), step.text);
    if (i === failed_at) item.append(" ", make("span", { className: "badge", "data-state": "bad", textContent: "this decided it" }));
    list.append(item);
  });
  return make("div", { className: "trace" }, make("p", {}, make("b", { textContent: verdict })), make("p", { textContent: cure }),
    make("p", { className: "quiet", textContent: about.filter(Boolean).join(", ") }), list);
}
