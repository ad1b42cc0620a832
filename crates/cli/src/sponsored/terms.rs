//! The terms of an allowance as options.

use accounting::Day;
use storage::MemberKind;
use storage::admin::sponsored::{Change, NamedMember, Terms};

/// What a new allowance is to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Made {
    /// Who pays: a user's id, or any name.
    #[arg(long)]
    sponsor_id: String,
    /// Its name.
    #[arg(long)]
    name: String,
    /// A model that it covers: its id (at every provider that has a price for it), or PROVIDER/ID; may be repeated.
    #[arg(short, long = "model", required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Whole credits that all users together may spend, ever.
    #[arg(short, long, visible_alias = "total-limit")]
    total_credit_limit: i64,
    /// Whole credits that each user may spend in a day; no limit without.
    #[arg(short, long, visible_alias = "daily-limit")]
    daily_credit_limit: Option<i64>,
    /// The first day on which it pays (YYYY-MM-DD, in the configured time zone).
    #[arg(long, value_name = "DAY")]
    starts: Option<Day>,
    /// The last day on which it pays.
    #[arg(long, value_name = "DAY")]
    ends: Option<Day>,
    #[command(flatten)]
    members: Members,
    /// Offer its models to everybody, as models of their own.
    #[arg(long)]
    public: bool,
}

/// What of an allowance is to change.
#[derive(Debug, clap::Args)]
pub(crate) struct Changed {
    /// A new name.
    #[arg(long)]
    new_name: Option<String>,
    /// Another who pays.
    #[arg(long)]
    sponsor_id: Option<String>,
    /// The models that it covers, instead of those before; may be repeated.
    #[arg(short, long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Whole credits that all users together may spend, ever.
    #[arg(short, long, visible_alias = "total-limit")]
    total_credit_limit: Option<i64>,
    /// Whole credits that each user may spend in a day, or `none`.
    #[arg(short, long, visible_alias = "daily-limit", value_parser = daily)]
    daily_credit_limit: Option<Daily>,
    /// Let each user spend what there is.
    #[arg(long, conflicts_with = "daily_credit_limit")]
    no_daily_limit: bool,
    /// The first day on which it pays (YYYY-MM-DD, in the configured time zone).
    #[arg(long, value_name = "DAY")]
    starts: Option<Day>,
    /// Let it pay from now on.
    #[arg(long, conflicts_with = "starts")]
    no_starts: bool,
    /// The last day on which it pays.
    #[arg(long, value_name = "DAY")]
    ends: Option<Day>,
    /// Let it pay without end.
    #[arg(long, conflicts_with = "ends")]
    no_ends: bool,
    #[command(flatten)]
    members: Members,
    /// Name nobody: it is for whoever may use its workspace models.
    #[arg(long, conflicts_with_all = ["users", "groups", "owui_groups"])]
    no_members: bool,
    /// Offer its models to everybody, as models of their own.
    #[arg(long)]
    public: bool,
    /// Offer them to its members only.
    #[arg(long, conflicts_with = "public")]
    no_public: bool,
}

/// Who may use an allowance, all together; instead of those before.
#[derive(Debug, clap::Args)]
pub(crate) struct Members {
    /// Only for this user (id, e-mail address or name) and other members; may be repeated.
    #[arg(long = "member-user", value_name = "USER")]
    users: Vec<String>,
    /// Only for the members of this credit group and other members; may be repeated.
    #[arg(long = "member-group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Only for those who are in this group of Open WebUI (name or id), whenever they ask, and other members; may be repeated.
    #[arg(long = "member-owui-group", value_name = "GROUP")]
    owui_groups: Vec<String>,
}

/// A daily limit, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Daily(Option<i64>);

fn daily(text: &str) -> Result<Daily, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Daily(None));
    }
    text.parse().map(|limit| Daily(Some(limit))).map_err(|_| "write whole credits, or none".into())
}

impl Made {
    pub(super) fn terms(self) -> Terms {
        Terms {
            name: self.name,
            sponsor: self.sponsor_id,
            models: self.models,
            total: self.total_credit_limit,
            daily: self.daily_credit_limit,
            starts_on: self.starts,
            ends_on: self.ends,
            members: self.members.named(),
            public: self.public,
        }
    }
}

impl Changed {
    pub(super) fn change(self) -> Change {
        let members = self.members.named();
        Change {
            name: self.new_name,
            sponsor: self.sponsor_id,
            models: (!self.models.is_empty()).then_some(self.models),
            total: self.total_credit_limit,
            daily: cleared(self.no_daily_limit, self.daily_credit_limit.map(|Daily(limit)| limit)),
            starts_on: cleared(self.no_starts, self.starts.map(Some)),
            ends_on: cleared(self.no_ends, self.ends.map(Some)),
            members: (self.no_members || !members.is_empty()).then_some(members),
            public: (self.public || self.no_public).then_some(self.public),
        }
    }
}

/// What an option sets, or its opposite takes away.
fn cleared<T>(away: bool, set: Option<Option<T>>) -> Option<Option<T>> {
    if away { Some(None) } else { set }
}

impl Members {
    fn named(self) -> Vec<NamedMember> {
        let of = |kind, names: Vec<String>| names.into_iter().map(move |name| NamedMember { kind, name });
        of(MemberKind::User, self.users)
            .chain(of(MemberKind::CreditGroup, self.groups))
            .chain(of(MemberKind::OpenWebUiGroup, self.owui_groups))
            .collect()
    }
}
