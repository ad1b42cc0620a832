//! OpenAI and every server that is compatible with it (API reference, "Chat Completions", "Embeddings", "Models"):
//! what they have in common is here and in [`convert`], where they differ is in [`family`].

mod completions;
mod convert;
mod dialect;
mod failure;
mod family;
mod native;
mod usage;
mod wire;

pub(crate) use convert::{complete, embeddings, models};
pub(crate) use failure::error;
pub(crate) use family::{
    AZURE, DASHSCOPE, DEEPSEEK, FIREWORKS, GROQ, HOST, LITELLM, MOONSHOT, OPENAI, OPENROUTER, PERPLEXITY,
    TGI, TOGETHER, VLLM, VOYAGE, XAI, is_azure,
};

use accounting::ModelId;
use bytes::Bytes;

use crate::answer::{Chunk, Complete, Reported, StreamEvent, What};
use crate::failure::{Failure, is_reported};
use crate::framing::Event;
use crate::protocol::{Asked, Conversion, Outgoing, Protocol, ended_too_soon};
use crate::report::Report;
use crate::{BadRequest, ChatRequest, EmbeddingsRequest, ProviderError, Shape, Unknown};

use convert::Read;
use dialect::Dialect;
use family::Routes;

/// Usage in the form in which OpenAI reports it (API reference, "The chat completion object", `usage`), in our classes; `None`
/// if it says nothing, or can't be right: who writes it here can correct it, a model server can't.
pub fn reported_usage(json: &str) -> Option<accounting::Usage> {
    let usage = usage::exact(json);
    crate::unknown_numbers::read_of_nobody();
    usage
}

/// The same as a model server tells it, for what it did before it failed.
pub(crate) fn told_usage(json: &str) -> Option<accounting::Usage> {
    usage::of_chat(&usage::read(json))
}

/// A server with OpenAI's routes.
#[derive(Debug)]
pub(crate) struct OpenAi {
    routes: Routes,
    /// OpenAI itself calls the field `max_completion_tokens`; most compatible servers know only the older name.
    output_limit_field: &'static str,
    dialect: &'static Dialect,
}

impl OpenAi {
    fn outgoing(&self, request: &ChatRequest, without: Option<&'static str>) -> Result<Outgoing, BadRequest> {
        let uri = match request.shape() {
            Shape::Responses => self.routes.responses()?,
            Shape::Completions => self.routes.completions(request.model())?,
            Shape::Chat | Shape::Messages => self.routes.chat(request.model())?,
        };
        let mut spoken = self.dialect.chat(request)?;
        spoken.leave_out(without);
        let omitted = std::mem::take(&mut spoken.omitted);
        Ok(Outgoing::json(uri, &spoken)?.omitting(omitted))
    }
}

impl Protocol for OpenAi {
    fn takes(&self, shape: Shape) -> bool {
        match shape {
            Shape::Chat | Shape::Responses => true,
            Shape::Completions => self.dialect.has_completions(),
            Shape::Messages => false,
        }
    }

    fn passes(&self, _: Shape) -> bool {
        true
    }

    fn chat(&self, request: &ChatRequest) -> Result<Outgoing, BadRequest> {
        self.outgoing(request, None)
    }

    fn chat_without(&self, request: &ChatRequest, field: &'static str) -> Result<Outgoing, BadRequest> {
        self.outgoing(request, Some(field))
    }

    /// "Get input token counts": free of charge.
    fn count_tokens(&self, request: &ChatRequest) -> Option<Result<Outgoing, BadRequest>> {
        (request.shape() == Shape::Responses).then(|| {
            request.refuse_unpriced_fields(Unknown::Count)?;
            Outgoing::json(self.routes.count()?, request.body())
        })
    }

    fn answer(&self, request: &ChatRequest, _: &Asked, body: Bytes) -> Result<Complete, ProviderError> {
        match request.shape() {
            Shape::Responses => native::complete(body),
            Shape::Completions => completions::complete(request, body),
            Shape::Chat | Shape::Messages => convert::complete(body),
        }
    }

    fn conversion(&self, request: &ChatRequest, _: Asked) -> Box<dyn Conversion> {
        match request.shape() {
            Shape::Responses => Box::<native::PassingResponse>::default(),
            Shape::Completions => Box::new(completions::Continuing::new(request)),
            Shape::Chat | Shape::Messages => Box::new(Passing::new(request.answers())),
        }
    }

    fn error(&self, body: &[u8]) -> Failure {
        error(body)
    }

    fn embeddings(&self, request: &EmbeddingsRequest) -> Result<Outgoing, BadRequest> {
        self.dialect.refuse(request.body())?;
        Outgoing::json(self.routes.embeddings(request.model())?, &request.sent())
    }

    fn embeddings_answer(
        &self,
        _: &EmbeddingsRequest,
        _: &Asked,
        body: Bytes,
    ) -> Result<Complete, ProviderError> {
        convert::embeddings(body)
    }

    fn models(&self) -> Outgoing {
        Outgoing::get(self.routes.models.clone())
    }

    fn models_answer(&self, body: &[u8]) -> Result<Vec<ModelId>, ProviderError> {
        convert::models(body)
    }

    fn output_limit_field(&self) -> &'static str {
        self.output_limit_field
    }
}

/// Chunks pass as they came, and are only looked at.
#[derive(Debug)]
pub(crate) struct Passing {
    /// How many choices were asked for.
    choices: u64,
    /// How many have come to their end; after one the stream may end without `[DONE]`.
    ended: u64,
    /// Whether more came behind the end of all choices: with such a server an end means nothing.
    went_on: bool,
    /// Whether a chunk without choices told the usage, as the last one of an answer does.
    closed: bool,
    /// What they have told of their usage.
    report: Report,
}

impl Passing {
    pub(crate) const fn new(choices: u64) -> Self {
        Self { choices, ended: 0, went_on: false, closed: false, report: Report::EMPTY }
    }

    /// One event, as it came or as another protocol wrote it.
    ///
    /// # Errors
    /// If the event is an error.
    pub(crate) fn pass(
        &mut self,
        raw: Bytes,
        data: Bytes,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), ProviderError> {
        let Read { mut what, ended, error: reported, mended } = convert::event(&data, &mut self.report);
        if let Some(reported) = reported {
            // What was used counts; of the rest nothing is passed on.
            if let What::Chunk(Chunk { usage: usage @ Some(_), .. }) = what {
                let chunk = Chunk { usage, no_choices: true, ..Chunk::default() };
                out.push(StreamEvent::passed(Bytes::new(), Bytes::new(), What::Chunk(chunk)));
            }
            return Err(reported);
        }
        if let What::Chunk(chunk) = &mut what {
            if chunk.no_choices && chunk.usage.is_none() && is_reported(&data) {
                return Err(error(&data).reported());
            }
            let all_before = self.ended >= self.choices;
            self.ended = self.ended.saturating_add(ended);
            self.went_on |= all_before && !chunk.produced.is_empty();
            self.closed |= chunk.no_choices && chunk.usage.is_some();
            chunk.usage = match chunk.usage {
                // Behind the end of all choices, a usage is the last word, even beside an empty choice (OpenRouter).
                Some(Reported::SoFar(usage)) if all_before => {
                    chunk.finish = true;
                    Some(Reported::Final(usage))
                }
                // Beside the end of one choice it is not, while others go on.
                Some(Reported::Final(usage)) if !chunk.no_choices && self.ended < self.choices => {
                    Some(Reported::SoFar(usage))
                }
                usage => usage,
            };
        }
        out.push(StreamEvent::passed_or_mended(raw, data, mended, what));
        Ok(())
    }
}

impl Conversion for Passing {
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let data = event.data.unwrap_or_default();
        self.pass(event.raw, data, out)
    }

    fn end(&mut self, _: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        if self.ended > 0 { Ok(()) } else { Err(ended_too_soon()) }
    }

    fn is_whole(&self) -> bool {
        self.closed || (self.ended >= self.choices && !self.went_on)
    }
}

#[cfg(test)]
mod tests;
