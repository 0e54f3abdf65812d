//! Rooms as the operator sees them: listed, shown, archived.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use crate::actors::survey::{self, Surveyed};
use crate::domain::{
    Alias, Command, Name, Principal, Record, RoomId, RoomKey, RoomName, Seq, TenantId, Timestamp, UserId,
};
use crate::http::Desk;
use crate::http::problem::Problem;
use crate::wire::{Dialect, Refusal};

/// The most rooms of one page.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize)]
pub struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

impl Page {
    fn after(&self) -> Result<Option<RoomId>, Refusal> {
        let room = |text: &String| text.parse().map(RoomId).map_err(Refusal::bad_request);
        self.after.as_ref().map(room).transpose()
    }
}

#[derive(Serialize)]
struct Room {
    room: String,
    num: u64,
    kind: &'static str,
    alias: Option<String>,
    name: Option<String>,
    archived: bool,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
    /// How many records it has.
    records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<Member>>,
}

#[derive(Serialize)]
struct Member {
    user: String,
    role: &'static str,
}

#[derive(Serialize)]
struct Rooms {
    rooms: Vec<Room>,
    /// Where the next page starts; `null` when there are no more.
    after: Option<String>,
}

impl From<Surveyed> for Room {
    fn from(Surveyed { room, header, head }: Surveyed) -> Self {
        Self {
            room: room.0.to_string(),
            num: header.num.0,
            kind: header.kind.as_str(),
            alias: header.alias.as_ref().map(Alias::as_str).map(str::to_owned),
            name: header.settings.name.as_ref().map(Name::as_str).map(str::to_owned),
            archived: header.archived,
            created_at: header.created_at.0,
            records: head.0,
            members: None,
        }
    }
}

/// `GET /tenants/{tenant}/rooms`
pub async fn list(desk: web::ThinData<Desk>, path: web::Path<String>, page: web::Query<Page>) -> HttpResponse {
    let listed = async {
        let limit = page.limit.unwrap_or(100).clamp(1, PAGE_MAX);
        let (rooms, more) = survey::rooms(&desk.registry, &tenant(&path)?, page.after()?, limit).await?;
        let rooms: Vec<_> = rooms.into_iter().map(Room::from).collect();
        let after = rooms.last().filter(|_| more).map(|room| room.room.clone());
        Ok(HttpResponse::Ok().json(Rooms { rooms, after }))
    };
    answered(listed.await)
}

/// `GET /tenants/{tenant}/rooms/{room}`
pub async fn show(desk: web::ThinData<Desk>, path: web::Path<(String, String)>) -> HttpResponse {
    let shown = async {
        let key = find(&desk, &path).await?;
        let (seen, members) = survey::room(&desk.registry, &key).await?;
        let members = members.into_iter();
        let members = members.map(|(user, member)| Member { user: user.to_string(), role: member.role.as_str() });
        Ok(HttpResponse::Ok().json(Room { members: Some(members.collect()), ..Room::from(seen) }))
    };
    answered(shown.await)
}

/// `POST /tenants/{tenant}/rooms/{room}/archive`
pub async fn archive(desk: web::ThinData<Desk>, path: web::Path<(String, String)>) -> HttpResponse {
    let archived = async {
        let key = find(&desk, &path).await?;
        let operator = Principal {
            tenant: key.tenant.clone(),
            user: UserId::operator(),
            token: None,
            login: None,
            issued_at: desk.registry.now(),
            expires_at: Timestamp(i64::MAX),
        };
        let done = desk.registry.submit(&key, operator, Command::Archive, None).await?;
        let seq = done.receipt.position.seq.0;
        Ok(HttpResponse::Ok().json(serde_json::json!({ "room": key.room.0.to_string(), "seq": seq })))
    };
    answered(archived.await)
}

#[derive(Deserialize)]
pub struct After {
    /// The seq after which the page starts.
    after: Option<u64>,
    limit: Option<usize>,
}

impl After {
    fn bounds(&self) -> (Seq, usize) {
        (Seq(self.after.unwrap_or(0)), self.limit.unwrap_or(100).clamp(1, PAGE_MAX))
    }
}

/// `GET /tenants/{tenant}/rooms/{room}/audit`
pub async fn audit(
    desk: web::ThinData<Desk>,
    path: web::Path<(String, String)>,
    page: web::Query<After>,
) -> HttpResponse {
    let read = async {
        let key = find(&desk, &path).await?;
        let (after, limit) = page.bounds();
        survey::audit(&desk.registry, &key, after, limit).await
    };
    answered(read.await.map(entries))
}

/// `GET /tenants/{tenant}/audit`
pub async fn audit_of_tenant(
    desk: web::ThinData<Desk>,
    path: web::Path<String>,
    page: web::Query<After>,
) -> HttpResponse {
    let read = async {
        let (after, limit) = page.bounds();
        survey::audit_of_tenant(&desk.registry, &tenant(&path)?, after, limit).await
    };
    answered(read.await.map(entries))
}

fn entries((audit, records, more): (RoomKey, Vec<Record>, bool)) -> HttpResponse {
    let next = records.last().filter(|_| more).map(|record| record.position.seq.0);
    let records = records.iter().map(|record| Dialect::NativeJson.encode_record(&audit, record));
    let records: Vec<serde_json::Value> = records
        .map(|record| serde_json::from_slice(&record).expect("what was written as JSON is read as JSON"))
        .collect();
    HttpResponse::Ok().json(serde_json::json!({ "records": records, "after": next }))
}

async fn find(desk: &Desk, (tenant_id, room): &(String, String)) -> Result<RoomKey, Refusal> {
    let name = RoomName::parse(room).map_err(Refusal::bad_request)?;
    desk.registry.locate(&tenant(tenant_id)?, &name).await
}

fn tenant(text: &str) -> Result<TenantId, Refusal> {
    TenantId::new(text).map_err(Refusal::bad_request)
}

fn answered(answer: Result<HttpResponse, Refusal>) -> HttpResponse {
    answer.unwrap_or_else(|refusal| Problem::of(refusal).response())
}
