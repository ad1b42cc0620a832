//! From OpenAI's JSON to what we need to know. Pure.

use accounting::{ModelId, Usage};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::failure::error;
use super::wire::{Content, Form};
use super::{usage, wire};
use crate::ProviderError;
use crate::answer::{Chunk, Complete, Reported, What};
use crate::failure::Failure;
use crate::lenient::{self, Scratch};
use crate::report::Report;

/// A whole answer.
pub(crate) fn complete(body: Bytes) -> Result<Complete, ProviderError> {
    whole(body, usage::of_chat)
}

/// Vectors, which have no output: what a server counts only in its total is input.
pub(crate) fn embeddings(body: Bytes) -> Result<Complete, ProviderError> {
    whole(body, usage::of_embeddings)
}

fn whole(body: Bytes, usage: impl Fn(&Report) -> Option<Usage>) -> Result<Complete, ProviderError> {
    let (usage, model, produced, mended) = {
        let scratch = Scratch::default();
        let answer: wire::Answer<'_> = lenient::read(&body, &scratch)
            .ok_or(ProviderError::BadAnswer { what: "not JSON of an answer" })?;
        if answer.choices.is_none() && answer.data.is_none() {
            return Err(ProviderError::BadAnswer { what: "neither choices nor data" });
        }
        let mut text = String::new();
        produced(&answer, Form::Whole, &mut text);
        let mut report = Report::default();
        grow(&mut report, &answer);
        let model = answer.model.map(|model| model.into_owned());
        (usage(&report), model, text, scratch.instead_of(&body))
    };
    Ok(Complete::new(mended.unwrap_or(body), usage, model, produced))
}

/// What an event of a stream tells, and the error that ends the stream with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Read {
    pub what: What,
    /// How many choices end with it.
    pub ended: u64,
    pub error: Option<ProviderError>,
    /// What is to be passed on in its place, if it is no JSON.
    pub mended: Option<Bytes>,
}

/// One event of a stream. `report`: what the events before it have told, which it adds to.
pub(crate) fn event(data: &Bytes, report: &mut Report) -> Read {
    let only = |what| Read { what, ended: 0, error: None, mended: None };
    if data.is_empty() {
        return only(What::Other);
    }
    if data.trim_ascii() == b"[DONE]" {
        return only(What::Done);
    }
    let scratch = Scratch::default();
    match lenient::read::<wire::Answer<'_>>(data, &scratch) {
        Some(answer) => Read { mended: scratch.instead_of(data), ..read(&answer, data, report) },
        // What no client can read passes on.
        None => only(What::Other),
    }
}

/// Adds what an answer or a chunk tells, in whichever place. Whether it tells anything.
fn grow(report: &mut Report, answer: &wire::Answer<'_>) -> bool {
    let groq = answer.x_groq.as_ref().and_then(|groq| groq.usage);
    let of_choices = answer.choices.iter().flatten().filter_map(|choice| choice.usage);
    let mut told = false;
    for raw in of_choices.chain(groq).chain(answer.usage).filter(|raw| raw.get() != "null") {
        let later = usage::read(raw.get());
        told |= !later.is_empty();
        report.grow(&later);
    }
    told
}

fn read(answer: &wire::Answer<'_>, data: &Bytes, report: &mut Report) -> Read {
    let choices = answer.choices.as_deref().unwrap_or_default();
    let ended = choices.iter().filter(|choice| choice.ends()).count() as u64;
    let finish = ended > 0;
    let mut text = String::new();
    produced(answer, Form::Chunk, &mut text);
    let groq = answer.x_groq.as_ref();
    // Some servers tell with each chunk how far they are.
    let reported = if choices.is_empty() || finish { Reported::Final } else { Reported::SoFar };
    let told = grow(report, answer);
    let what = What::Chunk(Chunk {
        produced: text,
        finish,
        no_choices: choices.is_empty(),
        usage: told.then(|| usage::of_chat(report)).flatten().map(reported),
        // Azure's first chunk has no name yet.
        model: answer.model.as_deref().filter(|model| !model.is_empty()).map(str::to_owned),
    });
    let said = |raw: &&RawValue| raw.get() != "null";
    let top = answer.object.is_some_and(|object| object.get() == "\"error\"");
    let failed =
        |choice: &wire::Choice<'_>| choice.finish_reason.is_some_and(|reason| reason.get() == "\"error\"");
    let error = if answer.error.filter(said).is_some() || top {
        Some(error(data))
    } else if let Some(raw) = groq.and_then(|groq| groq.error).filter(said) {
        Some(error(raw.get().as_bytes()))
    } else {
        choices.iter().any(failed).then(|| error(data))
    };
    Read { what, ended, error: error.map(Failure::reported), mended: None }
}

/// The list of models.
pub(crate) fn models(body: &[u8]) -> Result<Vec<ModelId>, ProviderError> {
    let models: wire::Models = serde_json::from_slice(body)
        .map_err(|_| ProviderError::BadAnswer { what: "not a list of models" })?;
    Ok(models.data.into_iter().filter_map(|model| ModelId::new(model.id).ok()).collect())
}

/// All output of an answer that is billed.
fn produced(answer: &wire::Answer<'_>, form: Form, text: &mut String) {
    for choice in answer.choices.iter().flatten() {
        Content::collect(choice.text.as_ref(), text);
        let Some(message) = choice.said(form) else { continue };
        Content::collect(message.content.as_ref(), text);
        // The same under two names is there once.
        let reasoning = Content::said(message.reasoning_content.as_ref());
        match reasoning.or_else(|| Content::said(message.reasoning.as_ref())) {
            Some(reasoning) => Content::collect(Some(reasoning), text),
            None => message.reasoning_details.iter().for_each(|details| details.collect(text)),
        }
        Content::collect(message.refusal.as_ref(), text);
        let calls = message.tool_calls.iter().flat_map(|calls| &calls.0);
        let functions = calls.flat_map(|call| call.function.iter().chain(&call.custom));
        for function in functions.chain(message.function_call.as_deref()) {
            for piece in [&function.name, &function.arguments, &function.input] {
                text.push_str(Content::text(piece.as_ref()).unwrap_or_default());
            }
        }
        others(message, text);
    }
}

/// Appends what stands in fields that only some servers know. The same under several names is there once.
fn others(message: &wire::Message<'_>, text: &mut String) {
    if message.others.is_empty() {
        return;
    }
    let known = [&message.content, &message.reasoning_content, &message.reasoning];
    let mut said: Vec<String> = known
        .into_iter()
        .flatten()
        .filter_map(|content| Content::text(Some(content)))
        .map(str::to_owned)
        .collect();
    for other in &message.others {
        let mut more = String::new();
        wire::texts(other, &mut more);
        if !more.is_empty() && !said.contains(&more) {
            text.push_str(&more);
            said.push(more);
        }
    }
}

#[cfg(test)]
mod tests;
