use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::scene::{K, Scene, question, read_answer};

fn client(root: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Arc::new(
        builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

#[test]
fn it_answers_over_tls() {
    let scene = Scene::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(scene.path("certificate.pem"), made.cert.pem()).unwrap();
    fs::write(scene.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let serving = scene.serve("open", &["--tls", "certificate.pem", "key.pem", "--timeout", "2"]);
    // Whoever speaks no TLS is not answered, and holds nobody up.
    assert!(serving.client().send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").is_none());
    let silent = TcpStream::connect(serving.address).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(client(made.cert.der().clone()), name).unwrap();
    let mut stream =
        BufReader::new(StreamOwned::new(connection, TcpStream::connect(serving.address).unwrap()));
    let body = question("a", &[1], K).to_string();
    let request =
        format!("POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().items().len(), K);
    drop(silent);
    assert_eq!(serving.end().0, Some(0));
}

#[test]
fn files_that_are_no_certificate_and_key_are_refused() {
    let scene = Scene::new();
    for number in ["1", "2"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(scene.path(&format!("certificate{number}.pem")), made.cert.pem()).unwrap();
        fs::write(scene.path(&format!("key{number}.pem")), made.signing_key.serialize_pem()).unwrap();
    }
    let http = |certificate: &'static str, key: &'static str| {
        ["http", "--target", "open", "--listen", "127.0.0.1:0", "--tls", certificate, key]
    };
    scene.refused(
        &http("certificate1.pem", "key2.pem"),
        "certificate1.pem and key2.pem do not belong together",
    );
    scene.refused(&http("none.pem", "key1.pem"), "none.pem: cannot be read");
    scene.refused(&http("key1.pem", "key1.pem"), "key1.pem: holds no certificate");
    scene.refused(&http("certificate1.pem", "certificate1.pem"), "certificate1.pem: holds no private key");
}
