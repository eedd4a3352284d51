package moodle

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"jumpgate/gateway"
)

func TestParseSessionReadsEveryRecording(t *testing.T) {
	for name, r := range recordings(t) {
		t.Run(name, func(t *testing.T) { checkRecording(t, r, r.Raw) })
	}
}

func checkRecording(t *testing.T, r recording, raw []byte) {
	t.Helper()
	got, err := ParseSession(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := Session{
		User: r.user(), RealUserID: r.RealUserID, LoginAs: r.Summary.LoginAs,
		Guest: r.Summary.Guest, MFAAuthenticated: r.Summary.MFA,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(r.Summary, got.Summary(0)); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestParseSessionReadsEverySerialiserWithEveryCompressor(t *testing.T) {
	serialisers := map[string]func(string) []byte{
		"php": phpString, "igbinary": igbinaryString, "none": func(s string) []byte { return []byte(s) },
	}
	compressors := map[string]func(string) string{
		"plain": func(s string) string { return s }, "gzip": gzipped, "zstd": zstded, "zstd without size": zstdStreamed,
	}
	for name, r := range recordings(t) {
		text, err := sessionText(string(r.Raw))
		if err != nil {
			t.Fatal(err)
		}
		for sname, serialise := range serialisers {
			for cname, compress := range compressors {
				t.Run(name+"/"+sname+"/"+cname, func(t *testing.T) {
					checkRecording(t, r, serialise(compress(text)))
				})
			}
		}
	}
}

func phpString(s string) []byte { return fmt.Appendf(nil, `s:%d:"%s";`, len(s), s) }

func igbinaryString(s string) []byte {
	out := []byte{0, 0, 0, 2}
	switch {
	case len(s) == 0:
		return append(out, 0x0d)
	case len(s) < 1<<8:
		out = append(out, 0x11, byte(len(s)))
	case len(s) < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 0x12), uint16(len(s)))
	default:
		out = binary.BigEndian.AppendUint32(append(out, 0x13), uint32(len(s)))
	}
	return append(out, s...)
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

var zstdWriter = sync.OnceValue(func() *zstd.Encoder {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return w
})

func zstded(s string) string { return string(zstdWriter().EncodeAll([]byte(s), nil)) }

func zstdStreamed(s string) string {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<16))
	if err != nil {
		panic(err)
	}
	for part := range strings.SplitAfterSeq(s, ";") { // sizes unknown in advance
		_, _ = w.Write([]byte(part))
	}
	_ = w.Close()
	return b.String()
}

// stdClass serialises properties, given as alternating names and values.
func stdClass(pairs ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `O:8:"stdClass":%d:{`, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, `s:%d:"%s";%s`, len(pairs[i]), pairs[i], pairs[i+1])
	}
	return b.String() + "}"
}

func TestParseSessionUnderstandsWhatMoodleMayWrite(t *testing.T) {
	learner := stdClass("id", `s:1:"3";`, "username", `s:3:"eva";`)
	tests := map[string]struct {
		text string
		want Summary
	}{
		"the id may be an int": {
			"USER|" + stdClass("id", "i:3;", "username", `s:3:"eva";`), Summary{UserID: 3, Username: "eva"}},
		"variables come in any order": {
			`a|N;SESSION|` + stdClass("tool_mfa_authenticated", "b:1;") + "USER|" + learner + "zz|a:0:{}",
			Summary{UserID: 3, Username: "eva", MFA: true}},
		"a string that looks like a user is a string": {
			`x|s:44:"";}USER|O:8:"stdClass":1:{s:2:"id";s:1:"2";}";USER|` + learner, Summary{UserID: 3, Username: "eva"}},
		"a property named like a variable is a property": {
			`SESSION|` + stdClass("USER|", stdClass("id", "i:2;")) + "USER|" + learner, Summary{UserID: 3, Username: "eva"}},
		"an id deeper in the user is not the user's": {
			"USER|" + stdClass("id", "i:3;", "x", stdClass("id", "i:9;")), Summary{UserID: 3}},
		"every type of value is skipped": {
			`x|a:9:{i:0;d:0.5;i:1;d:-INF;i:2;d:NAN;i:3;d:1.0E+25;i:-4;b:0;s:1:"k";N;i:5;E:4:"Su:H";i:6;C:3:"Foo":4:{;}";}i:7;a:2:{i:0;R:2;i:1;r:1;}}USER|` + learner,
			Summary{UserID: 3, Username: "eva"}},
		"the user id 0 is nobody": {
			"USER|" + stdClass("id", "i:0;", "mnethostid", `s:1:"1";`, "username", `s:1:"x";`), Summary{MnetHostID: 1}},
		"no user is nobody":     {"SESSION|" + stdClass(), Summary{}},
		"a null user is nobody": {"USER|N;SESSION|N;", Summary{}},
		"nothing is nobody":     {"", Summary{}},
		"a foreign host is remote": {
			"USER|" + stdClass("id", "i:3;", "mnethostid", "i:3;"), Summary{UserID: 3, MnetHostID: 3, Remote: true}},
		"user 1 is the guest under any name": {
			"USER|" + stdClass("id", "i:1;", "username", `s:4:"gast";`), Summary{UserID: 1, Username: "gast", Guest: true}},
		"guest is the guest under any id": {
			"USER|" + stdClass("id", "i:7;", "username", `s:5:"guest";`), Summary{UserID: 7, Username: "guest", Guest: true}},
		"realuser alone is login as": {
			"USER|" + stdClass("id", "i:3;", "realuser", `s:1:"2";`), Summary{UserID: 3, LoginAs: true}},
		"REALUSER alone is login as": {
			"REALUSER|" + stdClass("id", "i:2;") + "USER|" + stdClass("id", "i:3;"), Summary{UserID: 3, LoginAs: true}},
		"an administrator's second factor is not the worn account's": {
			"REALSESSION|" + stdClass("tool_mfa_authenticated", "b:1;") + "SESSION|" + stdClass() + "USER|" + stdClass("id", "i:3;"),
			Summary{UserID: 3}},
		"a second factor that is false is missing": {
			"USER|" + stdClass("id", "i:3;") + "SESSION|" + stdClass("tool_mfa_authenticated", "b:0;"), Summary{UserID: 3}},
		"a second factor that is an array is missing": {
			"USER|" + stdClass("id", "i:3;") + "SESSION|" + stdClass("tool_mfa_authenticated", "a:0:{}"), Summary{UserID: 3}},
		"invalid UTF-8 is made valid": {
			"USER|" + stdClass("id", "i:3;", "username", "s:3:\"a\xffb\";"), Summary{UserID: 3, Username: "a\uFFFDb"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseSession(phpString(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Summary(0)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseSessionSeesAHalfWrittenSession(t *testing.T) {
	for _, raw := range []string{"N;", "N;\n", `s:0:"";`, "\x00\x00\x00\x02\x00", "\x00\x00\x00\x02\x0d"} {
		got, err := ParseSession([]byte(raw))
		if want := (Session{Empty: true}); err != nil || got != want {
			t.Errorf("ParseSession(%q) = %+v, %v", raw, got, err)
		}
	}
}

func TestParseSessionIgnoresTheLineFeedOfRedisCLI(t *testing.T) {
	r := recordings(t)
	for _, name := range []string{"learner", "learner-igbinary", "learner-igbinary-gzip", "learner-gzip"} {
		if rec, ok := r[name]; ok {
			checkRecording(t, rec, append(rec.Raw, '\n'))
		}
	}
}

func TestParseSessionRefuses(t *testing.T) {
	user := func(field, value string) string { return "USER|" + stdClass("id", "i:3;", field, value) }
	tests := map[string]string{
		"no variable":                        "x",
		"a variable without a name":          "|i:1;",
		"a variable without a value":         "USER|",
		"text after the last value":          "USER|" + stdClass() + "x",
		"two users":                          "USER|" + stdClass("id", "i:3;") + "USER|" + stdClass("id", "i:2;"),
		"two real users":                     "REALUSER|" + stdClass("id", "i:3;") + "REALUSER|" + stdClass(),
		"two SESSIONs":                       "SESSION|" + stdClass() + "SESSION|" + stdClass("tool_mfa_authenticated", "b:1;"),
		"two ids":                            user("id", "i:2;"),
		"real users that differ":             "REALUSER|" + stdClass("id", "i:5;") + user("realuser", "i:2;"),
		"a user that is a reference":         "SESSION|" + stdClass("u", stdClass("id", "i:3;")) + "USER|r:2;",
		"a user that is an array":            `USER|a:1:{s:2:"id";i:3;}`,
		"a user that is a string":            `USER|s:1:"3";`,
		"a name that is a reference":         user("username", "R:2;"),
		"a name that is an array":            user("username", "a:0:{}"),
		"an id that is not a number":         "USER|" + stdClass("id", `s:2:"3x";`),
		"an id that is a float":              "USER|" + stdClass("id", "d:3;"),
		"an id that is a boolean":            "USER|" + stdClass("id", "b:1;"),
		"an id that is negative":             "USER|" + stdClass("id", "i:-3;"),
		"an id that overflows":               "USER|" + stdClass("id", "i:9223372036854775808;"),
		"a host id that is not a number":     user("mnethostid", `s:4:"none";`),
		"an unknown type":                    "x|q:1;",
		"a boolean of 2":                     "x|b:2;",
		"an int of letters":                  "x|i:1a;",
		"an int without digits":              "x|i:-;",
		"a float of letters":                 "x|d:1,5;",
		"a string longer than the text":      `x|s:99:"a";`,
		"a string shorter than it says":      `x|s:1:"ab";`,
		"a string of negative length":        `x|s:-1:"";`,
		"a length that overflows":            `x|s:99999999999999999999:"";`,
		"an array with more than there is":   "x|a:2:{i:0;N;}",
		"an array with less than there is":   "x|a:0:{i:0;N;}",
		"an array of a billion":              "x|a:1000000000:{i:0;N;}",
		"an array with an array for a key":   "x|a:1:{a:0:{}N;}",
		"an array that is not closed":        "x|a:1:{i:0;N;",
		"an object without a class":          "x|O:8:1:{}",
		"a custom object longer than it is":  `x|C:1:"A":9:{a}`,
		"a custom object shorter than it is": `x|C:1:"A":1:{aa}`,
		"nesting without end":                "x|" + strings.Repeat("a:1:{i:0;", 5000) + "N;" + strings.Repeat("}", 5000),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseSession(phpString(text)); err == nil {
				t.Errorf("no error but %+v", got)
			}
		})
	}
	outer := map[string]string{
		"nothing":                        "",
		"a byte":                         "\x00",
		"text after the value":           `s:0:"";x`,
		"a number":                       "i:3;",
		"an array":                       "a:0:{}",
		"a boolean":                      "b:0;",
		"igbinary without a value":       "\x00\x00\x00\x02",
		"igbinary of a number":           "\x00\x00\x00\x02\x06\x03",
		"igbinary of an array":           "\x00\x00\x00\x02\x14\x00",
		"igbinary cut off in its length": "\x00\x00\x00\x02\x13\x00\x00",
		"igbinary cut off in its text":   "\x00\x00\x00\x02\x11\x05USER",
		"igbinary that goes on":          "\x00\x00\x00\x02\x11\x01ab",
		"igbinary of another version":    "\x00\x00\x00\x03\x11\x01a",
		"gzip cut off":                   string(phpString(gzipped("USER|N;")[:15])),
		"zstd cut off":                   string(phpString(zstded("USER|N;")[:9])),
		"gzip in gzip":                   string(phpString(gzipped(gzipped("USER|N;")))),
	}
	for name, raw := range outer {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseSession([]byte(raw)); err == nil {
				t.Errorf("no error but %+v", got)
			}
		})
	}
}

func TestParseSessionRefusesEveryCutOffRecording(t *testing.T) {
	for name, r := range recordings(t) {
		for n := 1; n < len(r.Raw)-1; n += 1 + len(r.Raw)/200 {
			if s, err := ParseSession(r.Raw[:n]); err == nil {
				t.Fatalf("%s cut off after %d bytes: %+v", name, n, s)
			}
		}
	}
}

func TestParseSessionStopsAt8MiB(t *testing.T) {
	text := func(n int) string {
		return fmt.Sprintf(`x|s:%d:"%s";`, n, strings.Repeat("a", n))
	}
	big, ok := text(maxSession), text(maxSession-20)
	for name, compress := range map[string]func(string) string{"gzip": gzipped, "zstd": zstded, "streamed zstd": zstdStreamed} {
		if _, err := ParseSession(phpString(compress(big))); !errors.Is(err, errTooLarge) {
			t.Errorf("%s of more than 8 MiB: %v", name, err)
		}
		if _, err := ParseSession(phpString(compress(ok))); err != nil {
			t.Errorf("%s of less than 8 MiB: %v", name, err)
		}
	}
	if _, err := ParseSession(phpString(big)); !errors.Is(err, errTooLarge) {
		t.Errorf("plain, more than 8 MiB: %v", err)
	}
}

func TestParseSessionErrorsQuoteNothing(t *testing.T) {
	for _, text := range []string{
		"USER|" + stdClass("id", `s:6:"secret";`), "secret", "USER|" + stdClass("secret", "q"), "secret|q",
		"USER|" + stdClass("id", "i:1;", "id", `s:6:"secret";`),
	} {
		for _, raw := range [][]byte{phpString(text), []byte(text), phpString("\x1f\x8b" + text)} {
			_, err := ParseSession(raw)
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("ParseSession(%q): %v", raw, err)
			}
		}
	}
}

func TestSessionIdentity(t *testing.T) {
	eva := gateway.User{ID: 3, Username: "eva", MnetHostID: 1}
	tests := map[string]struct {
		session Session
		local   int64
		mfa     bool
		want    gateway.Identity
	}{
		"nobody":                                    {Session{User: gateway.User{MnetHostID: 4}}, 0, true, gateway.Identity{}},
		"a learner of this site":                    {Session{User: eva}, 0, false, gateway.Identity{User: eva}},
		"the default local host id is 1":            {Session{User: eva}, 1, false, gateway.Identity{User: eva}},
		"another local host id makes others remote": {Session{User: eva}, 2, false, gateway.Identity{User: eva, Remote: true}},
		"a factor that is missing is pending":       {Session{User: eva}, 0, true, gateway.Identity{User: eva, MFAPending: true}},
		"a factor that is there is not":             {Session{User: eva, MFAAuthenticated: true}, 0, true, gateway.Identity{User: eva}},
		"guests need no factor":                     {Session{User: eva, Guest: true}, 0, true, gateway.Identity{User: eva, Guest: true}},
		"login as needs no factor":                  {Session{User: eva, LoginAs: true}, 0, true, gateway.Identity{User: eva, LoginAs: true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.session.Identity(tt.local, tt.mfa)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func FuzzParseSession(f *testing.F) {
	for _, r := range recordings(f) {
		f.Add(r.Raw)
	}
	f.Add(phpString(zstded("USER|" + stdClass("id", "i:3;"))))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := ParseSession(raw)
		if err != nil && s != (Session{}) {
			t.Errorf("%v, but also %+v", err, s)
		}
		if id := s.Identity(0, false); id.LoggedIn() && id.Standing() == gateway.RuleOK && (s.LoginAs || s.Guest || s.RealUserID != id.User.ID) {
			t.Errorf("%+v may jump", s)
		}
	})
}

// FuzzUnserialize checks the walk over PHP values and the scalars of igbinary:
// what is accepted was read to its end and is a slice of the input.
func FuzzUnserialize(f *testing.F) {
	for _, s := range []string{
		"N;", "b:1;", "i:-5;", "d:1.5E+3;", `s:3:"a"b";`, `a:1:{i:0;a:0:{}}`, stdClass("a", "R:1;", "b", "r:1;"),
		`C:1:"A":2:{};}`, `E:3:"A:B";`, "\x00\x00\x00\x02\x11\x01a", "\x00\x00\x00\x02\x0b\xff\xff\xff\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := parser{text: s}
		if v, err := p.value(0); err == nil {
			if p.pos > len(s) || !strings.Contains(s[:p.pos], v.text) {
				t.Errorf("%q gave %+v up to %d", s, v, p.pos)
			}
			again := parser{text: s[:p.pos]}
			if w, err := again.value(0); err != nil || v != w {
				t.Errorf("%q alone gave %+v, %v", s[:p.pos], w, err)
			}
		}
		if v, err := decodeValue(s); err == nil && len(v.text) > max(len(s), 20) {
			t.Errorf("%q gave %+v", s, v)
		}
	})
}

func BenchmarkParseSession(b *testing.B) {
	all := recordings(b)
	zst, err := sessionText(string(all["learner"].Raw))
	if err != nil {
		b.Fatal(err)
	}
	all["learner-zstd"] = recording{Raw: phpString(zstded(zst))}
	for _, name := range []string{"learner", "learner-at-303", "learner-igbinary", "learner-gzip", "learner-zstd", "loginas"} {
		raw := all[name].Raw
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if _, err := ParseSession(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
