//! Documents over HTTP: each request is one look at a collection, or one change of it.

use std::collections::HashMap;

use actix_web::dev::HttpServiceFactory;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, guard, web};
use bytes::Bytes;
use uuid::Uuid;

use super::{Plain, tenant};
use crate::actors::documents::{self, ANSWERED_MAX, Collection, PAGE_SIZE, Paging};
use crate::clock::random_wide;
use crate::domain::document::{Change, CollectionName, Reader, Selection};
use crate::domain::{Principal, RecordId, Rejection, Seq};
use crate::http::listener::Connection;
use crate::http::payload::{self, Expects};
use crate::http::rest::json;
use crate::http::visit::Visit;
use crate::http::{Edge, credentials};
use crate::wire::Refusal;
use crate::wire::staticbackend::documents as written;

/// The most collections whose names are listed.
const COLLECTIONS_MAX: usize = 10_000;

/// What is asked of a collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Create,
    CreateAll,
    Get,
    GetAll,
    List,
    Query,
    Count,
    Update,
    UpdateAll,
    Increment,
    Delete,
    DeleteAll,
}

/// As whom somebody asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum As {
    /// A user, or nobody where what is asked for is public.
    Anybody,
    /// Whoever answers for the tenant.
    Root,
}

pub fn mount(config: &mut web::ServiceConfig) {
    config
        // Before a document of a collection that is called so.
        .service(one("/db/count/{collection}", As::Anybody, Method::POST, Act::Count))
        .service(one("/query/{collection}", As::Anybody, Method::POST, Act::Query))
        .service(one("/inc/{collection}/{id}", As::Anybody, Method::PUT, Act::Increment))
        .service(collection("/db/{collection}", As::Anybody))
        .service(document("/db/{collection}/{id}", As::Anybody))
        .service(one("/sudoquery/{collection}", As::Root, Method::POST, Act::Query))
        // Before a collection that is called so.
        .service(web::resource("/sudo/index").guard(guard::Post()).to(index))
        .service(collection("/sudo/{collection}", As::Root))
        .service(document("/sudo/{collection}/{id}", As::Root))
        .route("/sudolistall", web::get().to(list_collections))
        .route("/newid", web::get().to(new_id));
}

fn one(path: &'static str, by: As, method: Method, act: Act) -> impl HttpServiceFactory + 'static {
    let serve = move |request, payload, edge| serve(request, payload, edge, by, act);
    web::resource(path).guard(guard::Method(method)).to(serve)
}

fn collection(path: &'static str, by: As) -> impl HttpServiceFactory + 'static {
    let create = move |request: HttpRequest, payload, edge| {
        let query = query(&request);
        let act = match (says(&query, "bulk"), says(&query, "ids")) {
            (true, _) => Act::CreateAll,
            (false, true) => Act::GetAll,
            (false, false) => Act::Create,
        };
        serve(request, payload, edge, by, act)
    };
    web::resource(path)
        .route(web::post().to(create))
        .route(web::get().to(move |request, payload, edge| serve(request, payload, edge, by, Act::List)))
        .route(web::put().to(move |request, payload, edge| serve(request, payload, edge, by, Act::UpdateAll)))
        .route(web::delete().to(move |request, payload, edge| serve(request, payload, edge, by, Act::DeleteAll)))
}

fn document(path: &'static str, by: As) -> impl HttpServiceFactory + 'static {
    web::resource(path)
        .route(web::get().to(move |request, payload, edge| serve(request, payload, edge, by, Act::Get)))
        .route(web::put().to(move |request, payload, edge| serve(request, payload, edge, by, Act::Update)))
        .route(web::delete().to(move |request, payload, edge| serve(request, payload, edge, by, Act::Delete)))
}

impl Act {
    fn expects(self) -> Expects {
        match self {
            Self::Create
            | Self::CreateAll
            | Self::GetAll
            | Self::Query
            | Self::Count
            | Self::Update
            | Self::UpdateAll
            | Self::Increment => Expects::Json,
            Self::Get | Self::List | Self::Delete | Self::DeleteAll => Expects::Perhaps,
        }
    }

    /// Whether it changes nothing, so that nobody need say who it is where everybody may read.
    fn reads(self) -> bool {
        match self {
            Self::Get | Self::GetAll | Self::List | Self::Query | Self::Count => true,
            Self::Create
            | Self::CreateAll
            | Self::Update
            | Self::UpdateAll
            | Self::Increment
            | Self::Delete
            | Self::DeleteAll => false,
        }
    }

    /// Whether it looks at documents before the collection counts it as a change, or changes nothing.
    fn looks(self) -> bool {
        self.reads() || matches!(self, Self::UpdateAll | Self::DeleteAll)
    }
}

async fn serve(
    request: HttpRequest,
    payload: web::Payload,
    edge: web::ThinData<Edge>,
    by: As,
    act: Act,
) -> Result<HttpResponse, Plain> {
    carry_out(&request, payload, &edge, by, act).await
}

async fn carry_out(
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge,
    by: As,
    act: Act,
) -> Result<HttpResponse, Plain> {
    if matches!(act, Act::UpdateAll | Act::DeleteAll) && !says(&query(request), "bulk") {
        return Err(Plain::bad("a change of several documents says bulk=1".to_owned()));
    }
    let name = request.match_info().get("collection").unwrap_or_default();
    let name = CollectionName::new(name).map_err(|error| Plain::bad(error.to_string()))?;
    let registry = edge.worker.registry();
    let (bytes_max, body_time, time) = {
        let limits = registry.limits();
        (limits.body_bytes_max, limits.body_deadline, limits.answer_timeout)
    };
    if let Some(Connection { kill, .. }) = request.conn_data::<Connection>() {
        kill.allow(body_time + time);
    }
    let (principal, reader) = who(request, edge, by, act.reads() && name.is_public()).await?;
    let tenant = tenant(request, edge)?;
    if act.looks() {
        count(request, edge, principal.as_ref())?;
    }
    // A revocation finds it while it is carried out.
    let visit = principal.map(|by| Visit::command(request, edge, by)).transpose()?;
    let by = visit.as_ref().map(Visit::by);
    let grown = || edge.door.admit(request, by).map_err(|problem| problem.refusal);
    let body = payload::read(request, payload, act.expects(), bytes_max, body_time, grown).await?;
    visit.as_ref().map_or(Ok(()), Visit::is_good)?;
    let collection = Collection::new(registry, &tenant, name, reader);
    let answer = tokio::time::timeout(time, answer(request, &collection, by, act, &body)).await;
    let response = answer.map_err(|_| Refusal::unavailable())??;
    Ok(match visit {
        Some(visit) => visit.end(response),
        None => response,
    })
}

/// Counts a look at documents as a message of whoever asks, or of its address where nobody says who it is.
fn count(request: &HttpRequest, edge: &Edge, by: Option<&Principal>) -> Result<(), Refusal> {
    let (meters, limits) = (edge.worker.registry().meters(), edge.worker.registry().limits());
    match by {
        Some(by) => {
            meters.user(&limits.rates, by)?;
            meters.tenant(&limits, &by.tenant)
        }
        None => meters.ask(&limits.rates, edge.door.address(request)),
    }
}

/// Who asks, and as whom documents are read and written: the one place where that is decided. Nobody need say who it is
/// where what is asked for is public.
async fn who(
    request: &HttpRequest,
    edge: &Edge,
    by: As,
    is_public: bool,
) -> Result<(Option<Principal>, Reader), Plain> {
    let tenant = tenant(request, edge)?;
    if !request.headers().contains_key(header::AUTHORIZATION) {
        return if is_public && by == As::Anybody { Ok((None, Reader::Anonymous)) } else { Err(Plain::no_token()) };
    }
    let presented = credentials::presented(request, edge, None).await.map_err(|problem| {
        let why = problem.refusal.message();
        Plain::bad(format!("error validating auth key: {why}"))
    })?;
    let principal = presented.ok_or_else(Plain::no_token)?;
    if principal.tenant != tenant {
        return Err(Plain::bad("error validating auth key: it is of another tenant".to_owned()));
    }
    let reader = match by {
        As::Anybody => documents::user(edge.worker.registry(), &principal).await?,
        As::Root => documents::root(edge.worker.registry(), &principal).await?.ok_or_else(Plain::no_root)?,
    };
    Ok((Some(principal), reader))
}

async fn answer(
    request: &HttpRequest,
    collection: &Collection,
    by: Option<&Principal>,
    act: Act,
    body: &Bytes,
) -> Result<HttpResponse, Plain> {
    let by = || by.cloned().ok_or_else(Plain::no_token);
    match act {
        Act::Create => {
            let change = Change::Create(vec![written::read_document(body)?]);
            let done = collection.write(by()?, change).await?;
            let document = collection.written(&done).await?.ok_or_else(Refusal::unavailable)?;
            Ok(json(StatusCode::CREATED, written::document(&document).into()))
        }
        Act::CreateAll => {
            collection.write(by()?, Change::Create(written::read_documents(body)?)).await?;
            Ok(json(StatusCode::CREATED, Bytes::from_static(b"true")))
        }
        Act::Get => {
            let document = collection.get(id(request)?).await?;
            Ok(ok(written::document(&document)))
        }
        Act::GetAll => {
            let documents = collection.get_all(&written::read_ids(body)?).await?;
            Ok(ok(written::documents(&documents)))
        }
        Act::List | Act::Query => {
            let filters = if act == Act::Query { written::read_filters(body)? } else { Vec::new() };
            let paging = paging(request);
            let found = collection.query(&filters, paging).await?;
            let Paging { page, size, .. } = paging;
            let page = written::Page { page, size, total: found.total, results: &found.documents };
            Ok(ok(written::page(&page)))
        }
        Act::Count => {
            let count = collection.count(&written::read_filters(body)?).await?;
            Ok(ok(format!("{{\"count\":{count}}}").into_bytes()))
        }
        Act::Update => {
            let change = Change::Update(Selection::one(id(request)?), written::read_document(body)?);
            let done = collection.write(by()?, change).await?;
            let document = collection.written(&done).await?.ok_or(Rejection::DocumentNotFound)?;
            Ok(ok(written::document(&collection.shown(document))))
        }
        Act::Increment => {
            let written::Increment { field, range } = written::read_increment(body)?;
            let change = Change::Increment(Selection::one(id(request)?), field.into(), range);
            match collection.write(by()?, change).await?.records {
                0 => Err(Refusal::from(Rejection::DocumentNotFound).into()),
                _ => Ok(ok(b"true".to_vec())),
            }
        }
        Act::Delete => {
            let delete = Change::Delete(Selection::one(id(request)?));
            changed(collection, by()?, delete).await
        }
        Act::UpdateAll => {
            let written::UpdateAll { update, filters } = written::read_update_all(body)?;
            let selection = collection.select(filters).await?;
            changed(collection, by()?, Change::Update(selection, update)).await
        }
        Act::DeleteAll => {
            let filters = query(request).remove("x").unwrap_or_default();
            let selection = collection.select(written::read_some_of_address(&filters)?).await?;
            changed(collection, by()?, Change::Delete(selection)).await
        }
    }
}

/// Answers how many documents a change has changed.
async fn changed(collection: &Collection, by: Principal, change: Change) -> Result<HttpResponse, Plain> {
    let count = match collection.write(by, change).await {
        Ok(done) => done.records,
        // There is no such collection, or none yet.
        Err(refusal) if refusal.code() == Rejection::DocumentNotFound.code() => 0,
        Err(refusal) => return Err(refusal.into()),
    };
    Ok(ok(count.to_string().into_bytes()))
}

/// The names of the tenant's collections.
async fn list_collections(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let (visit, _) = visit(&request, &edge, As::Root).await?;
    let registry = edge.worker.registry();
    let names = documents::collections(registry, &visit.by().tenant, COLLECTIONS_MAX);
    let names = tokio::time::timeout(registry.limits().answer_timeout, names).await;
    let names = names.map_err(|_| Refusal::unavailable())??;
    visit.is_good()?;
    Ok(visit.end(ok(serde_json::to_vec(&names).expect("texts can be written to memory"))))
}

/// Has the documents of a collection found by a field. It goes on when whoever asked does not wait for it.
async fn index(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let (visit, reader) = visit(&request, &edge, As::Root).await?;
    let mut query = query(&request);
    let name = query.remove("col").unwrap_or_default();
    let name = CollectionName::new(&name).map_err(|error| Plain::bad(error.to_string()))?;
    let path = query.remove("field").unwrap_or_default();
    let registry = edge.worker.registry();
    let collection = Collection::new(registry, &visit.by().tenant, name, reader);
    let by = visit.by().clone();
    let indexed = actix::spawn(async move { collection.index(&by, &path).await });
    match tokio::time::timeout(registry.limits().answer_timeout, indexed).await {
        Ok(Ok(indexed)) => indexed?,
        Ok(Err(_)) => return Err(Refusal::unavailable().into()),
        // It is on its way.
        Err(_) => {}
    }
    visit.is_good()?;
    Ok(visit.end(ok(b"true".to_vec())))
}

/// An id that nobody else is given.
async fn new_id(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let (visit, _) = visit(&request, &edge, As::Anybody).await?;
    let id = RecordId::new(edge.worker.registry().now(), Seq::ZERO, random_wide());
    Ok(visit.end(ok(format!("\"{id}\"").into_bytes())))
}

/// A request without a body, of somebody, which is counted, and which a revocation finds.
async fn visit(request: &HttpRequest, edge: &Edge, by: As) -> Result<(Visit, Reader), Plain> {
    let (principal, reader) = who(request, edge, by, false).await?;
    let visit = Visit::begin(request, edge, principal.ok_or_else(Plain::no_token)?)?;
    count(request, edge, Some(visit.by()))?;
    visit.is_good()?;
    Ok((visit, reader))
}

fn ok(body: Vec<u8>) -> HttpResponse {
    json(StatusCode::OK, body.into())
}

fn id(request: &HttpRequest) -> Result<RecordId, Refusal> {
    let id = request.match_info().get("id").and_then(|id| Uuid::try_parse(id).ok());
    id.map(RecordId).ok_or_else(|| Rejection::DocumentNotFound.into())
}

/// Which page is asked for. What is no number is as if it were not there, as in the original.
fn paging(request: &HttpRequest) -> Paging {
    let query = query(request);
    let number = |name| query.get(name).and_then(|text| text.parse::<u64>().ok()).filter(|number| *number > 0);
    let size = number("size").map_or(PAGE_SIZE, |size| usize::try_from(size).unwrap_or(ANSWERED_MAX));
    let descending = says(&query, "desc");
    Paging { page: number("page").unwrap_or(1), size: size.min(ANSWERED_MAX), descending }
}

/// Whether an address says that something is so.
fn says(query: &HashMap<String, String>, name: &str) -> bool {
    query.get(name).is_some_and(|value| !["", "0", "false"].contains(&value.as_str()))
}

fn query(request: &HttpRequest) -> HashMap<String, String> {
    web::Query::from_query(request.query_string()).map(web::Query::into_inner).unwrap_or_default()
}
