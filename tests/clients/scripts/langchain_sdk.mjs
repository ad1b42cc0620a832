// LangChain in JavaScript, with its package for OpenAI.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { embedding, job, joined, model, numbers, run, schema, tells, weather } from "./cells.mjs";

const chat = (task) =>
  new ChatOpenAI({
    model,
    apiKey: task.key,
    useResponsesApi: job.route === "responses",
    configuration: { baseURL: job.openai },
  });

await run({
  plain: async (task) => (await chat(task).invoke(task.ask)).text,
  stream: async (task) => {
    const pieces = [];
    for await (const chunk of await chat(task).stream(task.ask)) pieces.push(chunk.text);
    return joined(pieces);
  },
  tools: async (task) => {
    const offered = tool(({ city }) => weather(task, city), { name: "weather", description: tells, schema });
    const bound = chat(task).bindTools([offered]);
    const messages = [new HumanMessage(task.ask)];
    const answer = await bound.invoke(messages);
    messages.push(answer);
    for (const call of answer.tool_calls) {
      messages.push(new ToolMessage({ content: await offered.invoke(call.args), tool_call_id: call.id }));
    }
    return (await bound.invoke(messages)).text;
  },
  structured: async (task) => (await chat(task).withStructuredOutput(schema, { name: "place" }).invoke(task.ask)).city,
  embeddings: async (task) => {
    const embeddings = new OpenAIEmbeddings({
      model: embedding,
      apiKey: task.key,
      configuration: { baseURL: job.openai },
    });
    return numbers(await embeddings.embedQuery(task.ask));
  },
});
