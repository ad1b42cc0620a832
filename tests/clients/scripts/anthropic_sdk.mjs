// Anthropic's client in JavaScript, with its own loop of tools.
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { job, joined, model, run, schema, tells, weather } from "./cells.mjs";

const client = (task) => new Anthropic({ baseURL: job.anthropic, apiKey: task.key });
const request = (task) => ({
  model,
  max_tokens: 1000,
  messages: [{ role: "user", content: task.ask }],
});
const text = (message) => message.content.map((block) => block.text ?? "").join("");

await run({
  plain: async (task) => text(await client(task).messages.create(request(task))),
  stream: async (task) => {
    const pieces = [];
    const stream = client(task).messages.stream(request(task));
    stream.on("text", (piece) => pieces.push(piece));
    await stream.finalMessage();
    return joined(pieces);
  },
  tools: async (task) => {
    const run = ({ city }) => weather(task, city);
    const tool = betaTool({ name: "weather", description: tells, inputSchema: schema, run });
    return text(await client(task).beta.messages.toolRunner({ ...request(task), tools: [tool] }));
  },
  structured: async (task) => {
    const output_config = { format: { type: "json_schema", schema } };
    return JSON.parse(text(await client(task).messages.create({ ...request(task), output_config }))).city;
  },
});
