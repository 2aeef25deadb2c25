//! Address ranges, such as `10.0.0.0/8`, for naming proxies that are trusted.

use std::{net::IpAddr, str::FromStr};

/// A range of addresses: those that share the first bits. A single address is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Whether `address` lies in the range. An IPv4 address written as IPv6 counts as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits.min(32)).unwrap_or(0);
                net.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits.min(128)).unwrap_or(0);
                net.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is no address range: write it like 10.0.0.0/8, or as one address");
        let (address, bits) = text.trim().split_once('/').map_or((text.trim(), None), |(a, b)| (a, Some(b)));
        let address = address.parse::<IpAddr>().map_err(|_| refused())?.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| refused())?;
        if bits > most {
            return Err(refused());
        }
        Ok(Self { address, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn a_range_holds_the_addresses_that_share_its_first_bits() {
        for (range, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "2001:db8::1", true),
        ] {
            let range: Network = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), inside, "{range:?} {address}");
        }
    }

    #[test]
    fn texts_that_are_no_range_are_refused() {
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::1/129", "host", "1.2.3.4/", "1.2.3.4/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad:?}");
        }
    }
}
