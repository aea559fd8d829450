//! A line for each node: its connections over time.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::world::World;

const SIZE: (u32, u32) = (800, 360);
/// Lines of no more nodes are drawn; of many, every so-manieth.
const MAX_LINES: usize = 40;
/// Points of a line.
const POINTS: u64 = 150;
/// The band within which no node begins to close connections.
const TOLERATED: RGBColor = RGBColor(214, 39, 40);

pub(crate) struct Plot {
    every: u64,
    /// Seconds and connections, by node.
    lines: Vec<Vec<(u64, usize)>>,
    /// Seconds and where a node begins to close connections.
    limit: Vec<(u64, usize)>,
}

impl Plot {
    pub(crate) fn new(world: &World) -> Self {
        let mut plot = Self {
            every: (world.scenario.duration / POINTS).max(1),
            lines: Vec::new(),
            limit: Vec::new(),
        };
        plot.note(world);
        plot
    }

    /// The world of this second.
    pub(crate) fn note(&mut self, world: &World) {
        let at = world.elapsed();
        if !at.is_multiple_of(self.every) {
            return;
        }
        self.lines.resize(world.nodes.len(), Vec::new());
        for (line, node) in self.lines.iter_mut().zip(&world.nodes) {
            if node.is_there(world.now) {
                line.push((at, node.count()));
            }
        }
        let (nodes, all) = world
            .active()
            .fold((0, 0), |(nodes, all), node| (nodes + 1, all + node.count()));
        let mean = all as f64 / f64::from(nodes);
        let settings = &world.scenario.settings;
        let limit = (mean * settings.tolerance).max(mean + settings.min_surplus as f64);
        self.limit.push((at, limit as usize));
    }

    pub(crate) fn draw(&self, world: &World, path: &Path) -> Result<(), Box<dyn Error>> {
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let most = self.lines.iter().flatten().map(|(_, count)| *count).max();
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(35)
            .y_label_area_size(60)
            .build_cartesian_2d(0..world.scenario.duration, 0..most.unwrap_or(1) * 11 / 10)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("seconds")
            .y_desc("connections of each node")
            .draw()?;
        let every = self.lines.len().div_ceil(MAX_LINES);
        for (place, line) in self.lines.iter().step_by(every).enumerate() {
            let style = Palette99::pick(place).stroke_width(1);
            chart.draw_series(LineSeries::new(line.iter().copied(), style))?;
        }
        chart.draw_series(DashedLineSeries::new(
            self.limit.iter().copied(),
            4,
            4,
            TOLERATED.stroke_width(1),
        ))?;
        root.present()?;
        Ok(())
    }
}
