// The AI SDK of Vercel, with its providers for OpenAI (Responses), Anthropic and compatible servers (Chat Completions).
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { embedding, job, joined, model, numbers, run, schema, tells, weather } from "./cells.mjs";

const provider = (task) => {
  if (job.route === "messages") return createAnthropic({ baseURL: `${job.anthropic}/v1`, apiKey: task.key });
  if (job.route === "responses") return createOpenAI({ baseURL: job.openai, apiKey: task.key });
  return createOpenAICompatible({
    name: "gateway",
    baseURL: job.openai,
    apiKey: task.key,
    supportsStructuredOutputs: true,
  });
};
const asked = (task) => ({ model: provider(task)(model), prompt: task.ask });

const cells = {
  plain: async (task) => (await generateText(asked(task))).text,
  stream: async (task) => {
    const pieces = [];
    let failed;
    const stream = streamText({ ...asked(task), onError: ({ error }) => (failed = error) });
    for await (const piece of stream.textStream) pieces.push(piece);
    if (failed) throw failed;
    return joined(pieces);
  },
  tools: async (task) => {
    const execute = async ({ city }) => weather(task, city);
    const tools = { weather: tool({ description: tells, inputSchema: jsonSchema(schema), execute }) };
    return (await generateText({ ...asked(task), tools, stopWhen: stepCountIs(3) })).text;
  },
  structured: async (task) => (await generateObject({ ...asked(task), schema: jsonSchema(schema) })).object.city,
  embeddings: async (task) => {
    const asked = { model: provider(task).textEmbeddingModel(embedding), value: task.ask };
    return numbers((await embed(asked)).embedding);
  },
};
await run(cells);
