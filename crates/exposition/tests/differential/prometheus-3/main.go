// Asks the parsers of a current Prometheus 3.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"verdict"
)

func main() {
	if err := verdict.Serve(scrape, readFamilies); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func scrape(text []byte, openMetrics bool) (verdict.Reading, error) {
	symbols := labels.NewSymbolTable()
	parser := textparse.NewPromParser(text, symbols, false)
	if openMetrics {
		parser = textparse.NewOpenMetricsParser(text, symbols)
	}
	reading := verdict.Reading{}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			if openMetrics {
				reading.Metadata = append(reading.Metadata, startTimes(text)...)
			}
			return reading, nil
		}
		if err != nil {
			return reading, err
		}
		switch entry {
		case textparse.EntryType:
			name, kind := parser.Type()
			reading.Metadata = append(reading.Metadata, fmt.Sprintf("TYPE %s %s", name, kind))
		case textparse.EntryUnit:
			name, unit := parser.Unit()
			reading.Metadata = append(reading.Metadata, fmt.Sprintf("UNIT %s %s", name, unit))
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, timestamp, value := parser.Series()
		var series labels.Labels
		parser.Labels(&series)
		// The parser does not see these, but the scrape fails (scrapeLoop.append).
		if name, twice := series.HasDuplicateLabelNames(); twice {
			return reading, fmt.Errorf("label name %q is not unique", name)
		}
		if !series.IsValid(model.UTF8Validation) {
			return reading, fmt.Errorf("invalid metric name or label names: %s", series)
		}
		pairs := []verdict.Label{}
		series.Range(func(label labels.Label) {
			if label.Name != labels.MetricName {
				pairs = append(pairs, verdict.Label{Name: label.Name, Value: label.Value})
			}
		})
		sample := verdict.Sample(series.Get(labels.MetricName), pairs, value, timestamp)
		reading.Samples = append(reading.Samples, sample+exemplarOf(parser))
	}
}

// startTimes writes the start time of each sample that has one, in milliseconds. To ask for one changes what a parser
// makes of the rest.
func startTimes(text []byte) []string {
	symbols := labels.NewSymbolTable()
	parser := textparse.NewOpenMetricsParser(text, symbols, textparse.WithOMParserSTSeriesSkipped())
	found := []string{}
	for {
		entry, err := parser.Next()
		if err != nil {
			return found
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var series labels.Labels
		parser.Labels(&series)
		if start := parser.StartTimestamp(); start != 0 {
			found = append(found, fmt.Sprintf("START %s %d", series, start))
		}
	}
}

// exemplarOf writes the exemplar of the current sample, if it has one.
func exemplarOf(parser textparse.Parser) string {
	var found exemplar.Exemplar
	if !parser.Exemplar(&found) {
		return ""
	}
	pairs := []verdict.Label{}
	found.Labels.Range(func(label labels.Label) {
		pairs = append(pairs, verdict.Label{Name: label.Name, Value: label.Value})
	})
	var timestamp *int64
	if found.HasTs {
		timestamp = &found.Ts
	}
	return "\t# " + verdict.Sample("", pairs, found.Value, timestamp)
}

func readFamilies(text []byte, _ bool) (verdict.Reading, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return verdict.Reading{}, err
	}
	return verdict.Reading{Samples: verdict.Flatten(families)}, nil
}
