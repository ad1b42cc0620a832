// OpenAI's client in JavaScript: Chat Completions, or Responses.
import OpenAI from "openai";
import { embedding, job, joined, model, numbers, run, schema, tells, weather } from "./cells.mjs";

const client = (task) => new OpenAI({ baseURL: job.openai, apiKey: task.key });
const asked = (task) => [{ role: "user", content: task.ask }];

const chat = {
  plain: async (task) => {
    const answer = await client(task).chat.completions.create({ model, messages: asked(task) });
    return answer.choices[0].message.content;
  },
  stream: async (task) => {
    const request = { model, messages: asked(task), stream: true };
    const pieces = [];
    for await (const chunk of await client(task).chat.completions.create(request)) {
      pieces.push(chunk.choices[0]?.delta?.content);
    }
    return joined(pieces);
  },
  tools: (task) => {
    const tool = {
      name: "weather",
      description: tells,
      parameters: schema,
      parse: JSON.parse,
      function: ({ city }) => weather(task, city),
    };
    const request = { model, messages: asked(task), tools: [{ type: "function", function: tool }] };
    return client(task).chat.completions.runTools(request).finalContent();
  },
  structured: async (task) => {
    const format = { type: "json_schema", json_schema: { name: "place", schema, strict: true } };
    const request = { model, messages: asked(task), response_format: format };
    const answer = await client(task).chat.completions.parse(request);
    return answer.choices[0].message.parsed.city;
  },
  embeddings: async (task) => {
    const answer = await client(task).embeddings.create({ model: embedding, input: task.ask });
    return numbers(answer.data[0].embedding);
  },
};

const responses = {
  plain: async (task) => (await client(task).responses.create({ model, input: task.ask })).output_text,
  stream: async (task) => {
    const pieces = [];
    const request = { model, input: task.ask, stream: true };
    for await (const event of await client(task).responses.create(request)) {
      if (event.type === "response.output_text.delta") pieces.push(event.delta);
    }
    return joined(pieces);
  },
  tools: async (task) => {
    const tools = [{ type: "function", name: "weather", description: tells, parameters: schema, strict: true }];
    const first = await client(task).responses.create({ model, input: asked(task), tools });
    const results = first.output
      .filter((item) => item.type === "function_call")
      .map((item) => ({
        type: "function_call_output",
        call_id: item.call_id,
        output: weather(task, JSON.parse(item.arguments).city),
      }));
    const input = [...asked(task), ...first.output, ...results];
    return (await client(task).responses.create({ model, input, tools })).output_text;
  },
  structured: async (task) => {
    const text = { format: { type: "json_schema", name: "place", schema, strict: true } };
    const request = { model, input: task.ask, text };
    return (await client(task).responses.parse(request)).output_parsed.city;
  },
};

await run(job.route === "chat" ? chat : responses);
