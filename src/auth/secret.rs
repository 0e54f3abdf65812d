//! The server's secrets, and where they are kept: `secrets/token.key` and `secrets/cursor.key` in the data directory.
//!
//! Takes no lock and needs no running server, so that `chinwag token create` works beside one.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;
use zeroize::Zeroizing;

/// What signs and checks tokens, or seals cursors. It never shows itself, and its memory is wiped when it goes.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why some bytes cannot be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("it has {bytes} bytes, and a secret needs at least {}", Secret::BYTES_MIN)]
    TooShort { bytes: usize },
    /// A public key that is taken for a secret lets everybody sign (RFC 8725, section 2.1).
    #[error("it is a PEM key, which must not serve as a shared secret")]
    Pem,
}

impl Secret {
    /// As long as the hash it is used with (RFC 7518, section 3.2).
    pub const BYTES_MIN: usize = 32;

    /// Checks `bytes` and takes them over.
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes);
        if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err(SecretError::Pem);
        }
        if bytes.len() < Self::BYTES_MIN {
            return Err(SecretError::TooShort { bytes: bytes.len() });
        }
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The secrets of one data directory.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Signs our own tokens.
    pub token: Secret,
    /// Seals the cursors of everything. Who knows it reads from a cursor how much is said on the server, no more.
    pub cursor: Secret,
    /// Whether that of tokens was made just now, because there was none.
    pub made: bool,
}

/// Why there are no secrets to work with.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{path} can be read or changed by other users (mode {mode:04o}), so its secret may be known; run \
         `chmod {wanted:o} {path}`, or, if others have had access, delete it: a new one is made and what stood on it ends"
    )]
    Exposed { path: PathBuf, mode: u32, wanted: u32 },
    #[error(
        "{path} does not hold a secret: {why}; delete it to have a new one made, which ends what stands on it: tokens, or cursors of everything"
    )]
    Unusable { path: PathBuf, why: String },
}

impl Secrets {
    /// Reads the secrets of the data directory `data`. Makes what is missing: the directory (mode 0700) and random
    /// secrets (mode 0600), on disk when this returns. Two callers at once get the same secrets.
    pub fn open(data: &Path) -> Result<Self, SecretsError> {
        let dir = data.join("secrets");
        let (token, made) = read_or_make(&dir, "token.key")?;
        let (cursor, _) = read_or_make(&dir, "cursor.key")?;
        Ok(Self { token, cursor, made })
    }
}

/// The secret in a file, and whether it was made just now.
fn read_or_make(dir: &Path, name: &str) -> Result<(Secret, bool), SecretsError> {
    let path = dir.join(name);
    if let Some(secret) = read(dir, &path)? {
        return Ok((secret, false));
    }
    let made = make(dir, &path)?;
    let secret = read(dir, &path)?.ok_or_else(|| vanished(&path))?;
    Ok((secret, made))
}

fn read(dir: &Path, path: &Path) -> Result<Option<Secret>, SecretsError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    // Who may write to the directory may put another secret in place.
    refuse_exposed(dir, &fs::metadata(dir).map_err(io_error("look at", dir))?, 0o022, 0o700)?;
    refuse_exposed(path, &file.metadata().map_err(io_error("look at", path))?, 0o077, 0o600)?;

    let mut text = Zeroizing::new(String::new());
    // Far more than a secret has, so that a wrong file is refused and not read for ever.
    file.take(4096).read_to_string(&mut text).map_err(io_error("read", path))?;
    let unusable = |why: String| SecretsError::Unusable { path: path.to_owned(), why };
    if text.trim_start().starts_with("-----BEGIN") {
        return Err(unusable(SecretError::Pem.to_string()));
    }
    let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| unusable("it is not base64url text".to_owned()))?;
    Secret::new(bytes).map(Some).map_err(|error| unusable(error.to_string()))
}

fn refuse_exposed(path: &Path, found: &fs::Metadata, forbidden: u32, wanted: u32) -> Result<(), SecretsError> {
    let mode = found.permissions().mode() & 0o7777;
    if mode & forbidden == 0 {
        return Ok(());
    }
    Err(SecretsError::Exposed { path: path.to_owned(), mode, wanted })
}

/// Makes the secret unless somebody else has made it meanwhile; says whether it was us.
fn make(dir: &Path, path: &Path) -> Result<bool, SecretsError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create", dir))?;

    let mut bytes = Zeroizing::new([0; Secret::BYTES_MIN]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| io_error("draw random bytes for", path)(io::Error::other(error.to_string())))?;
    let text = Zeroizing::new(format!("{}\n", URL_SAFE_NO_PAD.encode(*bytes)));

    let draft = path.with_added_extension(Uuid::new_v4().simple().to_string());
    let made = write(&draft, &text).and_then(|()| link(&draft, path));
    let removed = fs::remove_file(&draft).map_err(io_error("remove", &draft));
    let made = made?;
    removed?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", dir))?;
    Ok(made)
}

fn write(draft: &Path, text: &str) -> Result<(), SecretsError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft).map_err(io_error("create", draft))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io_error("write", draft))
}

/// Gives the finished draft its name. A link, unlike a rename, does not replace what another process put there.
fn link(draft: &Path, path: &Path) -> Result<bool, SecretsError> {
    match fs::hard_link(draft, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_error("create", path)(error)),
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SecretsError {
    let path = path.to_owned();
    move |source| SecretsError::Io { what, path, source }
}

fn vanished(path: &Path) -> SecretsError {
    io_error("read", path)(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_can_read_it() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("deep/data");
        let first = Secrets::open(&data).unwrap();
        assert!(first.made);
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join("secrets")), 0o700);
        assert_eq!(mode(&data.join("secrets/token.key")), 0o600);
        assert_eq!(mode(&data.join("secrets/cursor.key")), 0o600);
        assert_eq!((first.token.bytes().len(), first.cursor.bytes().len()), (32, 32));
        assert_ne!(first.token.bytes(), first.cursor.bytes());

        let second = Secrets::open(&data).unwrap();
        assert!(!second.made);
        assert_eq!(second.token.bytes(), first.token.bytes());
        assert_eq!(second.cursor.bytes(), first.cursor.bytes());
        assert_eq!(fs::read_dir(data.join("secrets")).unwrap().count(), 2, "no draft is left behind");
    }

    #[test]
    fn a_directory_from_before_there_was_a_secret_for_cursors_gets_one() {
        let home = tempfile::tempdir().unwrap();
        let first = Secrets::open(home.path()).unwrap();
        fs::remove_file(home.path().join("secrets/cursor.key")).unwrap();
        let second = Secrets::open(home.path()).unwrap();
        assert!(!second.made, "its tokens are as they were");
        assert_eq!(second.token.bytes(), first.token.bytes());
        assert_ne!(second.cursor.bytes(), first.cursor.bytes());
        assert_eq!(Secrets::open(home.path()).unwrap().cursor.bytes(), second.cursor.bytes());
    }

    #[test]
    fn those_who_come_at_once_get_the_same_secret() {
        let home = tempfile::tempdir().unwrap();
        let openings: Vec<_> = (0..8)
            .map(|_| {
                let data = home.path().to_owned();
                thread::spawn(move || Secrets::open(&data).unwrap())
            })
            .collect();
        let opened: Vec<_> = openings.into_iter().map(|opening| opening.join().unwrap()).collect();
        assert!(opened.iter().all(|secrets| secrets.token.bytes() == opened[0].token.bytes()));
        assert_eq!(opened.iter().filter(|secrets| secrets.made).count(), 1);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_way_out() {
        let home = tempfile::tempdir().unwrap();
        Secrets::open(home.path()).unwrap();
        let path = home.path().join("secrets/token.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let message = Secrets::open(home.path()).unwrap_err().to_string();
        assert!(message.contains("mode 0640"), "{message}");
        assert!(message.contains(&format!("chmod 600 {}", path.display())), "{message}");
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let home = tempfile::tempdir().unwrap();
        Secrets::open(home.path()).unwrap();
        fs::set_permissions(home.path().join("secrets"), fs::Permissions::from_mode(0o720)).unwrap();
        assert!(matches!(Secrets::open(home.path()), Err(SecretsError::Exposed { wanted: 0o700, .. })));
    }

    #[test]
    fn a_file_without_a_secret_is_refused_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        Secrets::open(home.path()).unwrap();
        let path = home.path().join("secrets/token.key");
        for text in ["", "c2hvcnQ", "not base64!", "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQ==\n"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Secrets::open(home.path()), Err(SecretsError::Unusable { .. })), "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_secret_is_long_enough_and_no_pem() {
        assert_eq!(Secret::new(vec![7; 31]).unwrap_err(), SecretError::TooShort { bytes: 31 });
        assert!(Secret::new(vec![7; 32]).is_ok());
        let pem = b"\n-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n";
        assert_eq!(Secret::new(pem.to_vec()).unwrap_err(), SecretError::Pem);
    }

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec()).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret");
        let secrets = Secrets { token: secret.clone(), cursor: secret, made: true };
        assert_eq!(format!("{secrets:?}"), "Secrets { token: Secret, cursor: Secret, made: true }");
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }
}
