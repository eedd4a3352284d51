package config

import (
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
)

// unsigned reads what becomes of unsigned jumps.
func (o object) unsigned(issuer string) gateway.Unsigned {
	said := gateway.Unsigned(o.choice("unsigned_jumps", string(gateway.UnsignedAllow),
		string(gateway.UnsignedAllow), string(gateway.UnsignedConfirm), string(gateway.UnsignedRefuse)))
	if said != gateway.UnsignedAllow && issuer == IssuerMoodle {
		o.unguardedLinks("unsigned_jumps")
	}
	return said
}

// unguardedLinks warns of a field about signed links in guard mode.
func (o object) unguardedLinks(key string) {
	o.warnf(o.place(key), "%q does nothing with issuer: %s: nobody looks at signatures, and who is logged in is not known", key, IssuerMoodle)
}

// days is a whole number of days: 30d.
func (o object) days(key string, fallback time.Duration) time.Duration {
	v := o.get(key)
	if v == nil {
		return fallback
	}
	number, unit := strings.CutSuffix(v.text, "d")
	n, err := strconv.Atoi(number)
	if v.kind != scalar || !unit || err != nil || n < 1 || n > maxDays {
		o.errorf(v.at, "write a number of days, such as 30d", "%q must be 1d to %dd, not %s", key, maxDays, v.show())
		return fallback
	}
	return time.Duration(n) * day
}

// days prints 2160h as 90d.
func days(d time.Duration) string { return strconv.Itoa(int(d/day)) + "d" }
