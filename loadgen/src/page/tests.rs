//! Plots and pages as their readers get them: parsed again.

use proptest::prelude::*;
use roxmltree::{Document, ParsingOptions};

use super::*;

fn texts(document: &Document<'_>) -> Vec<String> {
    document
        .descendants()
        .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")))
        .filter_map(|node| node.text())
        .map(|text| text.trim().to_owned())
        .collect()
}

/// The coordinates of a shape's points.
fn points(node: roxmltree::Node<'_, '_>) -> Vec<(f64, f64)> {
    let Some(points) = node.attribute("points") else {
        return Vec::new();
    };
    points
        .split_whitespace()
        .map(|point| {
            let (x, y) = point.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        })
        .collect()
}

fn polylines(document: &Document<'_>, colour: &str) -> Vec<Vec<(f64, f64)>> {
    document
        .descendants()
        .filter(|node| {
            node.tag_name().name() == "polyline" && node.attribute("stroke") == Some(colour)
        })
        .map(points)
        .collect()
}

fn plot(series: Vec<Series>) -> LinePlot {
    LinePlot {
        title: "Throughput".to_owned(),
        x: Axis::log("partitions"),
        y: Axis::linear("records/s"),
        series,
        marks: Vec::new(),
    }
}

#[test]
fn a_line_plot_says_its_title_its_axes_and_each_series_name() {
    let palette = Palette::new(["gannet", "kafka <4> & more"]);
    let svg = lines(
        &plot(vec![
            Series::new("gannet", vec![(2.0, 200_000.0), (1000.0, 190_000.0)]),
            Series::new(
                "kafka <4> & more",
                vec![(2.0, 20_000.0), (1000.0, 10_000.0)],
            ),
        ]),
        &palette,
    )
    .unwrap();
    let document = Document::parse(svg.as_str()).unwrap();
    let texts = texts(&document);
    for text in [
        "Throughput",
        "partitions",
        "records/s",
        "gannet",
        "kafka <4> & more",
        "1,000",
        "200,000",
    ] {
        assert!(
            texts.iter().any(|said| said == text),
            "{text} is not among {texts:?}"
        );
    }
}

#[test]
fn a_series_is_one_line_through_its_points_in_its_colour() {
    let palette = Palette::new(["other", "mine"]);
    let series = vec![Series::new(
        "mine",
        vec![(1.0, 0.0), (10.0, 50.0), (100.0, 100.0)],
    )];
    let svg = lines(&plot(series), &palette).unwrap();
    let document = Document::parse(svg.as_str()).unwrap();
    // The second one is the sample in the legend.
    let lines = polylines(&document, "#C24100");
    let line = lines
        .iter()
        .find(|line| line.len() == 3)
        .expect("a line of three points");
    assert!(
        (line[1].0 - line[0].0 - (line[2].0 - line[1].0)).abs() <= 1.0,
        "decades differ in {line:?}"
    );
    assert!(
        (line[0].1 - line[1].1 - (line[1].1 - line[2].1)).abs() <= 1.0,
        "steps differ in {line:?}"
    );
    assert!(line[0].1 > line[2].1, "more is higher up: {line:?}");
    assert_eq!(
        svg.as_str().matches("<circle").count() + svg.as_str().matches("<polygon").count(),
        4
    );
}

#[test]
fn a_value_without_a_place_is_left_out_and_the_others_are_drawn() {
    let palette = Palette::new(["a"]);
    let series = vec![Series::new(
        "a",
        vec![(0.0, 1e12), (1.0, 1.0), (2.0, f64::NAN), (4.0, 2.0)],
    )];
    let svg = lines(&plot(series), &palette).unwrap();
    let document = Document::parse(svg.as_str()).unwrap();
    assert!(
        polylines(&document, "#006AB0")
            .iter()
            .all(|line| line.len() == 2)
    );
    assert!(
        !texts(&document).iter().any(|text| text.contains("000,000")),
        "the axis of what is drawn"
    );
}

#[test]
fn percentiles_end_before_the_longest() {
    let curve = PercentileCurve {
        name: "gannet".to_owned(),
        curve: vec![
            (50.0, 400.0),
            (90.0, 900.0),
            (99.0, 2_000.0),
            (99.9, 9_000.0),
            (100.0, 1e6),
        ],
    };
    let svg = percentiles("Publish latency", &[curve], &Palette::new(["gannet"])).unwrap();
    let document = Document::parse(svg.as_str()).unwrap();
    assert!(
        polylines(&document, "#006AB0")
            .iter()
            .any(|line| line.len() == 4)
    );
    let texts = texts(&document);
    for text in ["latency, µs", "p50", "p99.9", "1,000"] {
        assert!(
            texts.iter().any(|said| said == text),
            "{text} is not among {texts:?}"
        );
    }
}

fn load_curve(name: &str, knee_per_s: Option<f64>) -> LoadCurve {
    let point = |offered_per_s: f64| LoadPoint {
        offered_per_s,
        p50_us: 300.0,
        p99_us: 900.0 + offered_per_s / 100.0,
        p99_9_us: 2_000.0 + offered_per_s,
    };
    LoadCurve {
        name: name.to_owned(),
        points: [1_000.0, 10_000.0, 100_000.0].map(point).to_vec(),
        knee_per_s,
    }
}

#[test]
fn one_sweep_has_three_percentiles_and_its_knee() {
    let palette = Palette::new(["gannet"]);
    let svg = latency_by_load("Load", &[load_curve("gannet", Some(80_000.0))], &palette).unwrap();
    let document = Document::parse(svg.as_str()).unwrap();
    let texts = texts(&document);
    for text in [
        "gannet p50",
        "gannet p99",
        "gannet p99.9",
        "knee 80,000",
        "offered load, records/s",
    ] {
        assert!(
            texts.iter().any(|said| said == text),
            "{text} is not among {texts:?}"
        );
    }
}

#[test]
fn several_sweeps_have_one_line_each() {
    let palette = Palette::new(["gannet", "kafka"]);
    let curves = [
        load_curve("gannet", Some(80_000.0)),
        load_curve("kafka", None),
    ];
    let svg = latency_by_load("Load", &curves, &palette).unwrap();
    let document = Document::parse(svg.as_str()).unwrap();
    let named: Vec<String> = texts(&document)
        .into_iter()
        .filter(|text| text.contains(" p"))
        .collect();
    assert_eq!(named, ["gannet p99, knee at 80,000", "kafka p99"]);
}

#[test]
fn a_bar_is_as_long_as_its_median_and_says_its_spread() {
    let palette = Palette::new(["gannet", "kafka"]);
    let plot = BarPlot {
        title: "Throughput".to_owned(),
        label: "records/s".to_owned(),
        bars: vec![
            Bar::of_rounds("gannet", [190_000.0, 200_000.0, 210_000.0]).unwrap(),
            Bar::of_rounds("kafka", [100_000.0]).unwrap(),
        ],
    };
    let svg = bars(&plot, &palette).unwrap();
    let document = Document::parse(svg.as_str()).unwrap();
    let width = |colour: &str| -> f64 {
        let bar = document.descendants().find(|node| {
            node.tag_name().name() == "rect" && node.attribute("fill") == Some(colour)
        });
        bar.unwrap().attribute("width").unwrap().parse().unwrap()
    };
    assert!((width("#006AB0") - 2.0 * width("#C24100")).abs() <= 2.0);
    let texts = texts(&document);
    for text in [
        "gannet",
        "200,000   (190,000 to 210,000)",
        "100,000",
        "records/s",
    ] {
        assert!(
            texts.iter().any(|said| said == text),
            "{text} is not among {texts:?}"
        );
    }
}

fn parsed(html: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(html, options).unwrap()
}

#[test]
fn a_page_shows_text_as_it_is_and_asks_for_nothing_else() {
    let mut section = Section::new("<script>alert(1)</script>");
    let mut table = Table::new(["name", "records/s"]);
    table.row(vec![
        Cell::Text("a & b".to_owned()),
        Cell::Remarked("5".to_owned(), "\"late\"".to_owned()),
    ]);
    section.text("</section>\0").table(table).remark("it's so");
    let mut page = Page::new("A <race>");
    page.lead("lead").section(section);
    let html = page.html();
    let document = parsed(&html);
    assert!(
        !document
            .descendants()
            .any(|node| node.tag_name().name() == "script")
    );
    let heading = document
        .descendants()
        .find(|node| node.tag_name().name() == "h2")
        .unwrap();
    assert_eq!(heading.text(), Some("<script>alert(1)</script>"));
    let cell = document
        .descendants()
        .find(|node| node.tag_name().name() == "td")
        .unwrap();
    assert_eq!(cell.text(), Some("a & b"));
    for outside in ["src=", "url(", "@import", "http:", "https:", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn plots_that_follow_each_other_stand_side_by_side() {
    let palette = Palette::new(["a"]);
    let svg = || {
        lines(
            &plot(vec![Series::new("a", vec![(1.0, 1.0), (2.0, 2.0)])]),
            &palette,
        )
        .unwrap()
    };
    let mut section = Section::new("Plots");
    section.plot(svg()).plot(svg()).text("between").plot(svg());
    let mut page = Page::new("Page");
    page.section(section);
    let html = page.html();
    let document = parsed(&html);
    let figures: Vec<usize> = document
        .descendants()
        .filter(|node| node.attribute("class") == Some("plots"))
        .map(|node| {
            node.children()
                .filter(|child| child.has_tag_name("figure"))
                .count()
        })
        .collect();
    assert_eq!(figures, [2, 1]);
}

proptest! {
    #[test]
    fn any_text_and_any_numbers_make_a_document_that_parses(
        title in any::<String>(),
        name in any::<String>(),
        points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20),
    ) {
        let palette = Palette::new([name.clone()]);
        for axis in [Axis::linear("x"), Axis::log("x"), Axis { label: name.clone(), scale: Scale::Nines }] {
            let plot = LinePlot {
                title: title.clone(),
                x: axis.clone(),
                y: axis,
                series: vec![Series::new(name.clone(), points.clone())],
                marks: vec![Mark { text: title.clone(), x: points.first().map_or(1.0, |point| point.0), colour_of: name.clone() }],
            };
            let svg = lines(&plot, &palette).unwrap();
            prop_assert!(Document::parse(svg.as_str()).is_ok(), "{}", svg.as_str());
            let mut section = Section::new(title.clone());
            section.text(name.clone()).plot(svg);
            let mut page = Page::new(title.clone());
            page.section(section);
            let html = page.html();
            parsed(&html);
        }
        let bar = Bar::of_rounds(name, points.iter().map(|point| point.0));
        let svg = bars(&BarPlot { title, label: "records/s".to_owned(), bars: bar.into_iter().collect() }, &palette).unwrap();
        prop_assert!(Document::parse(svg.as_str()).is_ok(), "{}", svg.as_str());
    }
}
