//! Publishes numbered records to a topic, creating it if need be.
//!
//! `cargo run -p gannet-wire --example publisher -- 127.0.0.1:7470 orders 1000`
#![allow(
    clippy::disallowed_macros,
    reason = "an example stays as short as it can be"
)]

use std::error::Error;

use gannet_wire::ErrorCode;
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ClientConfig, ClientError, ProducerConfig};
use gannet_wire::frame::TopicSettings;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:7470".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let count: u64 = arguments.next().map_or(Ok(1000), |count| count.parse())?;

    let client = Client::connect(address, ClientConfig::default())?;
    match client.create_topic(&topic, 4, &TopicSettings::default()) {
        Ok(_) => println!("created {topic}"),
        Err(ClientError::Server(error)) if error.code == ErrorCode::TopicExists => {}
        Err(error) => return Err(error.into()),
    }

    let producer = client.producer(&topic, ProducerConfig::default())?;
    for number in 0..count {
        let key = format!("customer-{}", number % 100);
        let value = format!("order {number}");
        // Records with the same key go to the same partition and stay in order.
        producer.send(
            None,
            Some(key.as_bytes()),
            Some(value.as_bytes()),
            &[],
            None,
        )?;
    }
    // Only now is it certain that every record is stored.
    producer.close()?;
    println!("published {count} records");
    Ok(())
}
