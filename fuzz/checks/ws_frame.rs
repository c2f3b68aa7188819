//! Frame heads: judged alike however much of them is there, and every accepted head
//! is the one way to write it.

use procring::wire::Parsed;
use procring::wire::ws::frame::{Opcode, frame_head, parse_head, write_frame};
use procring::wire::ws::mask;

/// Checks one input, as the bytes of a client frame and as a payload to send.
pub fn ws_frame(data: &[u8]) {
    let whole = parse_head(data);
    let mut decided = None;
    for end in 0..=data.len().min(20) {
        let result = parse_head(&data[..end]);
        match decided {
            None if result == Ok(Parsed::NeedMore) => {}
            None => decided = Some(result),
            Some(earlier) => assert_eq!(result, earlier, "changed with byte {end}"),
        }
    }
    assert_eq!(decided.unwrap_or(Ok(Parsed::NeedMore)), whole);

    if let Ok(Parsed::Done { value, used }) = whole {
        let mut written = [0; 10];
        let len = frame_head(value.opcode, value.fin, value.payload_len, &mut written);
        written[1] |= 0x80;
        assert_eq!([&written[..len], &value.key].concat(), data[..used]);

        let payload = &data[used..];
        let mut whole = payload.to_vec();
        mask::apply(&mut whole, value.key, 0);
        let model = payload.iter().zip(value.key.iter().cycle());
        assert_eq!(
            whole,
            model.map(|(byte, key)| byte ^ key).collect::<Vec<_>>()
        );
        let (front, back) = payload.split_at(super::split_point(payload));
        let (mut front, mut back) = (front.to_vec(), back.to_vec());
        mask::apply(&mut front, value.key, 0);
        mask::apply(&mut back, value.key, front.len() as u64);
        assert_eq!([front, back].concat(), whole);
    }

    let mut sent = Vec::new();
    write_frame(Opcode::Binary, data, &mut sent);
    let head_len = sent.len() - data.len();
    assert_eq!(&sent[head_len..], data);
    sent[1] |= 0x80;
    sent.splice(head_len..head_len, [0; 4]);
    let Ok(Parsed::Done { value, used }) = parse_head(&sent) else {
        panic!("our own head is refused");
    };
    assert_eq!((value.payload_len, used), (data.len() as u64, head_len + 4));
}
