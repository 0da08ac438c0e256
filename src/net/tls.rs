use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::error::NetError;

/// What is demanded of a connection. The default is https with a certificate that the roots vouch for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Security {
    /// Whether the certificate of the host is checked.
    pub verify: Verify,
    /// Whether http URLs may be asked for.
    pub plain: Plain,
    /// Files (PEM) of roots to trust besides the usual ones.
    pub ca_files: Vec<PathBuf>,
    /// What we identify ourselves with.
    pub client: Option<ClientCertificate>,
}

/// Whether the certificate of a host is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// It is.
    #[default]
    Required,
    /// Any will do.
    Skipped,
}

/// Whether HTTP without TLS will do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Plain {
    /// It will not.
    #[default]
    Refused,
    /// It will.
    Allowed,
}

/// Files (PEM) to identify ourselves with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The certificate, and those that vouch for it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Where the usual roots are taken from. The default is the places that distributions put them in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// A file instead of them (SSL_CERT_FILE).
    pub file: Option<PathBuf>,
    /// Folders instead of them (SSL_CERT_DIR).
    pub dirs: Vec<PathBuf>,
}

/// The usual roots, read when the first connection needs them.
#[derive(Debug)]
pub(super) struct Trust {
    roots: Roots,
    store: OnceLock<RootCertStore>,
}

impl Trust {
    pub fn new(roots: Roots) -> Self {
        Trust { roots, store: OnceLock::new() }
    }

    fn store(&self) -> Result<&RootCertStore, NetError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = self.load()?;
        Ok(self.store.get_or_init(|| store))
    }

    fn load(&self) -> Result<RootCertStore, NetError> {
        let mut store = RootCertStore::empty();
        let Roots { file, dirs } = &self.roots;
        let given = file.is_some() || !dirs.is_empty();
        let mut reason = None;
        let mut add = |found: rustls_native_certs::CertificateResult| {
            reason = reason.take().or(found.errors.first().map(ToString::to_string));
            store.add_parsable_certificates(found.certs);
        };
        if given {
            if let Some(file) = file {
                add(rustls_native_certs::load_certs_from_paths(Some(file), None));
            }
            for dir in dirs {
                add(rustls_native_certs::load_certs_from_paths(None, Some(dir)));
            }
        } else {
            add(rustls_native_certs::load_native_certs());
        }
        if store.is_empty() {
            if given {
                let path = file.clone().or(dirs.first().cloned()).unwrap_or_default();
                let reason = reason.unwrap_or_else(|| "there is no certificate in it".into());
                return Err(NetError::Certificate { path, reason });
            }
            // A machine without certificates, as most containers are.
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Ok(store)
    }

    /// Returns what rustls needs to know for connections of this kind.
    pub fn config(&self, security: &Security) -> Result<Arc<ClientConfig>, NetError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has what these versions need");
        let builder = match security.verify {
            Verify::Required => {
                let mut store = self.store()?.clone();
                for path in &security.ca_files {
                    for certificate in certificates(path)? {
                        store.add(certificate).map_err(|error| unusable(path, error))?;
                    }
                }
                builder.with_root_certificates(store)
            }
            Verify::Skipped => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate::new(&provider)))
            }
        };
        let config = match &security.client {
            None => builder.with_no_client_auth(),
            Some(ClientCertificate { certificate, key }) => {
                let chain = certificates(certificate)?;
                let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|_| unusable(key, "there is no private key in it"))?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| unusable(key, error))?
            }
        };
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(path, "there is no certificate in it")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, NetError> {
    fs::read(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, reason: impl fmt::Display) -> NetError {
    NetError::Certificate { path: path.into(), reason: reason.to_string() }
}

/// Lets every certificate pass; the peer must still own the one that it shows.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    fn new(provider: &CryptoProvider) -> Self {
        AnyCertificate(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Puts TLS over the connections that need it.
pub(super) struct Tls(pub(super) Arc<ClientConfig>);

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Encrypted>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name =
            ServerName::try_from(host).map_err(|_| Error::Tls("the host has no name that a certificate can have"))?;
        let mut session = ClientConnection::new(Arc::clone(&self.0), name.to_owned())?;
        let mut socket = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        session.complete_io(&mut socket).map_err(of_rustls)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(Encrypted { buffers, stream: StreamOwned::new(session, socket) })))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// A connection with TLS.
pub(super) struct Encrypted {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount]).map_err(of_rustls)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let room = self.buffers.input_append_buf();
        let length = self.stream.read(room).map_err(of_rustls)?;
        self.buffers.input_appended(length);
        Ok(length > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encrypted")
    }
}

/// What rustls has to say comes wrapped into an error of reading or writing.
fn of_rustls(error: io::Error) -> Error {
    match error.downcast::<rustls::Error>() {
        Ok(error) => Error::Rustls(error),
        Err(error) => Error::from(error),
    }
}
