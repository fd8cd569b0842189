//! A ticket for a database: one line of text, and a QR code.

use autobee::Ticket;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;

use crate::Result;
use crate::args::TicketArgs;
use crate::create::secret;
use crate::failure::Failure;
use crate::out::Out;
use crate::place::Place;

pub(crate) async fn ticket(args: TicketArgs, place: &Place, out: &Out) -> Result<()> {
    let (reader, store) = place.read_with_store().await?;
    let mut ticket = Ticket::new(reader.key()).on_swarm(args.swarm);
    for address in args.at {
        ticket = ticket
            .at(address)
            .map_err(|error| Failure::Usage(error.to_string()))?;
    }
    let kept = secret(&reader, &store).await?;
    let is_encrypted = kept.is_some();
    if args.secret {
        let Some(kept) = kept.and_then(|kept| <[u8; 32]>::try_from(kept).ok()) else {
            return Err(Failure::Usage(
                "the database has no encryption key: leave --secret out".into(),
            ));
        };
        ticket = ticket.with_encryption_key(kept);
    }
    let text = ticket.to_string();
    let drawn = if args.qr { Some(draw(&text)?) } else { None };
    let answer = json!({ "ticket": text, "hasSecret": args.secret, "qr": drawn });
    out.either(&answer, || match &drawn {
        Some(drawn) => format!("{drawn}\n{text}"),
        None => text.clone(),
    })?;
    if is_encrypted && !args.secret {
        out.note("the database is encrypted: who joins needs its encryption key, too (autobee id --secret)");
    }
    Ok(())
}

/// The code, in characters that are two squares high each: dark on light, whatever the colours of the terminal are not.
fn draw(text: &str) -> Result<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L);
    let code = code.map_err(|error| Failure::Usage(format!("the ticket does not fit a QR code: {error}")))?;
    Ok(code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build())
}
