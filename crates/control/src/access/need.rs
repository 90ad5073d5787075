//! What a call needs.

use macaroon::Action;

/// What a call is about. The names in braces are those of the route's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What everyone may read, without a token.
    Open,
    /// Nothing of a tenant: any valid token will do.
    Token,
    /// Several records, or one that the body names: any valid token will do, and the
    /// operation checks each record that it shows, makes or changes.
    Several,
    /// The platform: its hosts and images. Only admin tokens.
    Platform,
    /// The organization `{org}`.
    Org,
    /// The app `{app}`.
    App,
    /// The machine `{machine}` of the app `{app}`.
    Machine,
    /// The volume `{volume}` of the app `{app}`.
    Volume,
}

/// What a call needs: actions on a subject, or on one feature of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The actions.
    pub action: Action,
    /// What they are done to.
    pub subject: Subject,
    /// The part of the subject that the call is about, such as `metadata` of a machine.
    pub feature: Option<&'static str>,
    /// The call runs a command: tokens that are limited to some commands may make it, and
    /// the operation checks the command.
    pub runs_command: bool,
    /// A machine may make the call about itself without a token.
    pub by_itself: bool,
}

/// To read attributes of the subject.
pub(crate) const fn read(subject: Subject) -> Need {
    Need::new(Action::READ, subject)
}

/// To change attributes of the subject.
pub(crate) const fn write(subject: Subject) -> Need {
    Need::new(Action::WRITE, subject)
}

/// To make something below the subject.
pub(crate) const fn create(subject: Subject) -> Need {
    Need::new(Action::CREATE, subject)
}

/// To delete the subject, or something below it.
pub(crate) const fn delete(subject: Subject) -> Need {
    Need::new(Action::DELETE, subject)
}

/// To change the state of the subject and none of its attributes.
pub(crate) const fn control(subject: Subject) -> Need {
    Need::new(Action::CONTROL, subject)
}

impl Need {
    const fn new(action: Action, subject: Subject) -> Self {
        Self { action, subject, feature: None, runs_command: false, by_itself: false }
    }

    /// And these actions.
    pub(crate) const fn and(self, action: Action) -> Self {
        Self { action: self.action.and(action), ..self }
    }

    /// On one feature of the subject: a caveat for features applies to it.
    pub(crate) const fn of(self, feature: &'static str) -> Self {
        Self { feature: Some(feature), ..self }
    }

    /// The call runs a command in the machine. Its operation has to check it.
    pub(crate) const fn to_run_command(self) -> Self {
        Self { runs_command: true, ..self }
    }

    /// Or no token, for a machine that makes the call about itself.
    pub(crate) const fn or_itself(self) -> Self {
        Self { by_itself: true, ..self }
    }
}
