// What the scripts in JavaScript share; the same as cells.py.
import { readFileSync, writeSync } from "node:fs";

export const job = JSON.parse(readFileSync(0, "utf8"));
export const { model, embedding } = job;
// What a client prints by itself is no answer.
for (const name of ["log", "info", "debug"]) console[name] = console.error;

export const schema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
export const tells = "Tells how the weather is in a city";

/** The tool. */
export const weather = (task, city) => `It rains in ${city}. ${task.result}`;

const refused = ["limit", "key"];
const say = (line) => writeSync(1, JSON.stringify(line) + "\n");

/** The text of a stream, which must have come in pieces. */
export const joined = (pieces) => {
  const some = pieces.filter(Boolean);
  return some.length > 1 ? some.join("") : `not in pieces: ${JSON.stringify(some)}`;
};

export const numbers = (vector) => vector.join(" ");

/** Does the cells of the job. A limit that is reached and a wrong key are what the cell `plain` meets with another key. */
export const run = async (cells) => {
  say({ ready: true });
  for (const task of job.tasks) {
    const begin = performance.now();
    let said;
    try {
      said = { shown: await cells[refused.includes(task.cell) ? "plain" : task.cell](task), failed: false };
    } catch (error) {
      said = { shown: `${error.name}: ${error.message}`, failed: true };
    }
    say({ cell: task.cell, seconds: (performance.now() - begin) / 1000, ...said });
  }
  process.exit(0);
};
