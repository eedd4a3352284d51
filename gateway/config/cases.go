package config

import (
	"path/filepath"
	"time"

	"jumpgate/gateway"
)

// Case is what somebody expects of a target.
type Case struct {
	Position              // of the case
	Name     string       // "" for none
	Target   string       // as jumpgate check takes it, byte by byte
	Peer     string       // hostwwwroot of a target that names none; "" for the only peer
	User     string       // who would jump; "" for nobody in particular
	Day      time.Time    // on which they would, at noon in UTC; zero for now
	Allow    bool         // else it is to be refused
	Rule     gateway.Rule // that decides; "" for any
	Location string       // where the learner would end; "" for anywhere
}

type casesDoc struct {
	Cases []caseDoc `yaml:"cases"`
}

type caseDoc struct {
	Name     string `yaml:"name"`
	Target   string `yaml:"target"`
	Peer     string `yaml:"peer"`
	User     string `yaml:"user"`
	Day      string `yaml:"day"`
	Expect   string `yaml:"expect"`
	Rule     string `yaml:"rule"`
	Location string `yaml:"location"`
}

// LoadCases reads a file of cases as strictly as Load reads a configuration,
// with the same errors.
func LoadCases(file string) ([]Case, error) {
	r := &report{}
	src := &source{name: file, dir: filepath.Dir(absolute(file))}
	var err error
	if src.text, err = readFile(file, maxConfig, false); err != nil {
		r.errorf(place{src: src}, "write cases: and below it a list of target, peer, expect and rule", "cannot read the cases: %s", reason(err))
		return nil, r.err()
	}
	v, ok := parse(r, src)
	if !ok {
		return nil, r.err()
	}
	o := r.object(v, "a file of cases", fieldsOf[casesDoc]())
	const hint = "write a list below cases:, each item with target and expect"
	var all []Case
	if v.kind == mapping && o.require("cases", "the file", hint) {
		list := o.list("cases")
		if len(list) == 0 && o.get("cases").kind != scalar {
			o.errorf(o.place("cases"), hint, `"cases" is empty: nothing would be tested`)
		}
		for _, item := range list {
			all = append(all, r.testCase(item))
		}
	}
	return all, r.err()
}

func (r *report) testCase(v *value) Case {
	o := r.object(v, "a case", fieldsOf[caseDoc]())
	c := Case{Position: v.at.position()}
	if v.kind != mapping || !o.require("target", "a case", `target: the page that is wanted, an address of a peer, or a whole jump link`) ||
		!o.require("expect", "a case", "expect: allow, or expect: refuse") {
		return c
	}
	c.Name, c.Peer, c.User = o.text("name", ""), o.text("peer", ""), o.text("user", "")
	c.Allow = o.choice("expect", "allow", "allow", "refuse") == "allow"
	c.Rule = gateway.Rule(o.text("rule", ""))
	c.Location = o.text("location", "")
	if target := o.get("target"); target.kind == scalar { // control characters and all
		c.Target = target.text
	} else {
		o.text("target", "") // says what is wrong
	}
	if v := o.get("day"); v != nil {
		day, err := time.Parse(time.DateOnly, v.text)
		if err != nil {
			o.errorf(v.at, "write year, month and day: 2027-01-31", `"day" must be a day, not %s`, v.show())
		}
		c.Day = day.Add(12 * time.Hour)
	}
	o.checkRule(c)
	return c
}

// checkRule reports a case that cannot come true.
func (o object) checkRule(c Case) {
	if !c.Allow && c.Location != "" {
		o.errorf(o.place("location"), "leave location out, or expect allow", "what is refused ends nowhere")
	}
	if c.Rule == "" {
		return
	}
	var names []string
	for _, m := range gateway.Rules() {
		if names = append(names, string(m.Rule)); m.Rule != c.Rule {
			continue
		}
		if m.Allows != c.Allow {
			o.errorf(o.place("rule"), "jumpgate policy print lists the rules", "the rule %s never decides to %s", c.Rule, o.text("expect", ""))
		}
		return
	}
	o.errorf(o.place("rule"), hintUnknown(string(c.Rule), names), "there is no rule %q", string(c.Rule))
}
