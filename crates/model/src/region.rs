//! Regions: the cities that their codes stand for, and groups of them.
//!
//! A code is chosen by the operator. For the codes that people know from Fly.io, which are those of
//! airports, name and place are known (<https://fly.io/docs/reference/regions/>).

/// A part of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Africa.
    Africa,
    /// Asia, Australia and Oceania.
    AsiaPacific,
    /// Europe.
    Europe,
    /// The United States.
    UnitedStates,
    /// The rest of North America.
    NorthAmerica,
    /// South America.
    SouthAmerica,
}

impl Part {
    /// Its name; that of the continent for the United States.
    pub fn name(self) -> &'static str {
        match self {
            Self::Africa => "Africa",
            Self::AsiaPacific => "Asia Pacific",
            Self::Europe => "Europe",
            Self::UnitedStates | Self::NorthAmerica => "North America",
            Self::SouthAmerica => "South America",
        }
    }

    /// Whether it belongs to a group, by the group's name in region expressions
    /// (<https://fly.io/docs/machines/guides-examples/machine-placement/>).
    pub fn is_in(self, group: &str) -> bool {
        match group {
            "af" => self == Self::Africa,
            "apac" => self == Self::AsiaPacific,
            "eu" => self == Self::Europe,
            "us" | "usa" => self == Self::UnitedStates,
            "na" => matches!(self, Self::UnitedStates | Self::NorthAmerica),
            "sa" => self == Self::SouthAmerica,
            _ => false,
        }
    }
}

/// Names of the groups.
pub const GROUPS: [&str; 7] = ["af", "apac", "eu", "na", "sa", "us", "usa"];

/// What a code stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct City {
    /// Code.
    pub code: &'static str,
    /// Name, with state or country.
    pub name: &'static str,
    /// Part of the world.
    pub part: Part,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// The city of a code.
pub fn city(code: &str) -> Option<&'static City> {
    CITIES.iter().find(|city| city.code == code)
}

const fn at(code: &'static str, name: &'static str, part: Part, place: (f64, f64)) -> City {
    City { code, name, part, latitude: place.0, longitude: place.1 }
}

/// The places are those of the airports, rounded to a tenth of a degree.
static CITIES: [City; 36] = [
    at("ams", "Amsterdam, Netherlands", Part::Europe, (52.3, 4.8)),
    at("arn", "Stockholm, Sweden", Part::Europe, (59.7, 17.9)),
    at("atl", "Atlanta, Georgia (US)", Part::UnitedStates, (33.6, -84.4)),
    at("bog", "Bogotá, Colombia", Part::SouthAmerica, (4.7, -74.1)),
    at("bom", "Mumbai, India", Part::AsiaPacific, (19.1, 72.9)),
    at("bos", "Boston, Massachusetts (US)", Part::UnitedStates, (42.4, -71.0)),
    at("cdg", "Paris, France", Part::Europe, (49.0, 2.5)),
    at("den", "Denver, Colorado (US)", Part::UnitedStates, (39.9, -104.7)),
    at("dfw", "Dallas, Texas (US)", Part::UnitedStates, (32.9, -97.0)),
    at("ewr", "Secaucus, NJ (US)", Part::UnitedStates, (40.7, -74.2)),
    at("eze", "Ezeiza, Argentina", Part::SouthAmerica, (-34.8, -58.5)),
    at("fra", "Frankfurt, Germany", Part::Europe, (50.0, 8.6)),
    at("gdl", "Guadalajara, Mexico", Part::NorthAmerica, (20.5, -103.3)),
    at("gig", "Rio de Janeiro, Brazil", Part::SouthAmerica, (-22.8, -43.2)),
    at("gru", "São Paulo, Brazil", Part::SouthAmerica, (-23.4, -46.5)),
    at("hkg", "Hong Kong", Part::AsiaPacific, (22.3, 113.9)),
    at("iad", "Ashburn, Virginia (US)", Part::UnitedStates, (38.9, -77.5)),
    at("jnb", "Johannesburg, South Africa", Part::Africa, (-26.1, 28.2)),
    at("lax", "Los Angeles, California (US)", Part::UnitedStates, (33.9, -118.4)),
    at("lhr", "London, United Kingdom", Part::Europe, (51.5, -0.5)),
    at("mad", "Madrid, Spain", Part::Europe, (40.5, -3.6)),
    at("maa", "Chennai, India", Part::AsiaPacific, (13.0, 80.2)),
    at("mia", "Miami, Florida (US)", Part::UnitedStates, (25.8, -80.3)),
    at("nrt", "Tokyo, Japan", Part::AsiaPacific, (35.8, 140.4)),
    at("ord", "Chicago, Illinois (US)", Part::UnitedStates, (42.0, -87.9)),
    at("otp", "Bucharest, Romania", Part::Europe, (44.6, 26.1)),
    at("phx", "Phoenix, Arizona (US)", Part::UnitedStates, (33.4, -112.0)),
    at("qro", "Querétaro, Mexico", Part::NorthAmerica, (20.6, -100.2)),
    at("scl", "Santiago, Chile", Part::SouthAmerica, (-33.4, -70.8)),
    at("sea", "Seattle, Washington (US)", Part::UnitedStates, (47.4, -122.3)),
    at("sin", "Singapore, Singapore", Part::AsiaPacific, (1.4, 104.0)),
    at("sjc", "San Jose, California (US)", Part::UnitedStates, (37.4, -121.9)),
    at("syd", "Sydney, Australia", Part::AsiaPacific, (-33.9, 151.2)),
    at("waw", "Warsaw, Poland", Part::Europe, (52.2, 21.0)),
    at("yul", "Montreal, Canada", Part::NorthAmerica, (45.5, -73.7)),
    at("yyz", "Toronto, Canada", Part::NorthAmerica, (43.7, -79.6)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_cities() {
        let members = |group: &str| CITIES.iter().filter(|city| city.part.is_in(group)).count();
        assert_eq!(GROUPS.map(members), [1, 6, 8, 16, 5, 12, 12]);
        assert!(city("iad").unwrap().part.is_in("us"));
        assert!(!city("yyz").unwrap().part.is_in("us"));
        assert_eq!(city("local"), None);
    }
}
