//! The web page, embedded in the binary.

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;

#[derive(Embed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Assets;

/// A file of the web page. Files under `assets/` carry a hash in their name and never change.
pub(crate) async fn asset(uri: Uri) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let Some(file) = Assets::get(path) else {
        let message = if Assets::get("index.html").is_none() {
            "this build has no web page: run `npm ci && npm run build` in web/ before building\n"
        } else {
            "not found\n"
        };
        return (StatusCode::NOT_FOUND, message).into_response();
    };
    let content_type = mime_guess::from_path(path).first_or_octet_stream();
    let caching = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = file.data.into_response();
    if let Ok(value) = HeaderValue::from_str(content_type.as_ref()) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}
