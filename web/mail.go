package web

import (
	"context"
	"log/slog"

	"jumpgate/gateway"
	"jumpgate/sp/mail"
)

// ObserveMails returns what a relay of site tells what became of each mail: it
// turns that into one log line and the metrics. Of the people it names no more
// than the domain; subjects and addresses are nobody's affair.
func ObserveMails(site gateway.Wwwroot, log *slog.Logger, metrics *Metrics) func(context.Context, mail.Event) {
	return func(ctx context.Context, e mail.Event) {
		metrics.mails.WithLabelValues(site.String(), e.Outcome).Inc()
		if e.Outcome == mail.OutcomeSent {
			metrics.mailLinks.WithLabelValues(site.String()).Add(float64(e.Result.Links))
		}
		attrs := []slog.Attr{
			slog.String("site", site.String()), slog.String("outcome", e.Outcome), slog.Int("code", e.Code),
			slog.String("domain", printable(e.Domain)), slog.Int("recipients", e.Recipients),
		}
		if e.Home != nil {
			attrs = append(attrs, slog.String("home", e.Home.Wwwroot.String()), slog.Int("links", e.Result.Links))
		}
		if e.Result.Untouched != "" {
			attrs = append(attrs, slog.String("untouched", e.Result.Untouched))
		}
		attrs = append(attrs, slog.Duration("duration", e.Duration))
		level := slog.LevelInfo
		switch {
		case e.Outcome == mail.OutcomeUnknown, e.Outcome == mail.OutcomeUnconfirmed:
			level = slog.LevelWarn
			attrs = append(attrs, slog.Bool("may_arrive_twice", true))
		case e.Outcome != mail.OutcomeSent, e.Result.Untouched == mail.UntouchedSigned:
			level = slog.LevelWarn
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error", printable(e.Err.Error())))
		}
		log.LogAttrs(ctx, level, "mail", attrs...)
	}
}
