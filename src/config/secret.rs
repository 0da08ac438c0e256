use std::fmt;

/// Text that nobody may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// Returns the text, for whom it is meant.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    /// Leaves no copy in freed memory, as far as that is ours to say.
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
}

/// Who we are to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token that is changed for others (OAuth 2: refresh token).
    Identity(Secret),
    /// A token that is shown as it is.
    Bearer(Secret),
}

/// Credentials from the command line (--creds), and for whom they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenCredentials {
    /// Who we are.
    pub credentials: Credentials,
    /// The images, as they are written, whose registries may know it. No other registry may, whatever a Dockerfile names.
    pub images: Vec<String>,
}

impl Credentials {
    /// Returns the credentials of the text `user:password`; `None` where there is no colon or no user.
    pub fn parse(text: &str) -> Option<Self> {
        let (user, password) = text.split_once(':')?;
        (!user.is_empty()).then(|| Credentials::Basic { user: user.into(), password: Secret::new(password) })
    }
}
