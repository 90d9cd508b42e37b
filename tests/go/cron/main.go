// Command cron prints when github.com/robfig/cron/v3 fires, for many expressions, zones and instants.
// The Go operator and Kubernetes CronJobs parse their schedules by its function ParseStandard.
//
// The columns are the expression, the zone, an instant, and the next activations after it, separated by tabs.
// The activations are "error" if the expression is refused, and "never" if it never fires.
//
// Usage: go run ./cron > ../domain/cron.tsv
package main

import (
	"fmt"
	"math/rand"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

const activations = 4

var zones = []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney"}

var starts = []string{
	"2026-01-15T10:07:30Z", "2026-02-27T23:59:59Z", "2026-03-28T12:00:00Z", "2026-03-29T00:30:00Z", "2026-06-30T22:00:00Z",
	"2026-10-24T22:00:00Z", "2026-10-25T00:15:00Z", "2026-11-01T04:30:00Z", "2026-12-31T23:59:00Z", "2027-02-28T06:00:00Z",
}

var byHand = []string{
	"0 9 * * MON-FRI", "0 9 * * 1-5", "0 9 1 * *", "0 9 1,15 * MON", "0 9 */2 * MON", "0 9 * * */2", "0 9 */1 * MON",
	"0 9 ? * MON", "0 9 ? * ?", "? ? ? ? ?", "0 9 1-31 * MON", "0 9 1-31/2 * 1", "*/15 * * * *", "0/15 * * * *",
	"5/15 * * * *", "5-59/15 * * * *", "0 */6 * * *", "0 0-23/6 * * *", "0 9 * JAN-MAR *", "0 9 * jan,FEB,Mar *",
	"0 9 29 2 *", "0 9 30 2 *", "0 9 31 4,6,9,11 *", "0 9 * * SUN", "0 9 * * 0", "0 9 * * 7", "0 9 * * sun,sat",
	"0 9 * * MON-SUN", "0 9 * * FRI-MON", "0 9 * NOV-FEB *", "0 22-6 * * *", "0 9 * * 5-1", "0 9 31 * *",
	"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly", "@reboot", "@every 2h", "@every 90m",
	"@every 1h30m", "@every 1.5h", "@every 24h", "@every 1500ms", "@every 500ms", "@every 0s", "@every -5m", "@every",
	"@every 2 h", "@every 1d", "@Daily", "@", "TZ=Asia/Tokyo 0 9 * * *", "CRON_TZ=Asia/Tokyo 0 9 * * *",
	"CRON_TZ=Asia/Tokyo @daily", "TZ=Nowhere/City 0 9 * * *", "TZ= 0 9 * * *", "tz=UTC 0 9 * * *",
	"", " ", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * 13 *",
	"* * * * 8", "-1 * * * *", "*/0 * * * *", "*/61 * * * *", "1/2/3 * * * *", "1-2-3 * * * *", "a * * * *", "1,,2 * * * *",
	", * * * *", "1, * * * *", ",1 * * * *", "+5 * * * *", "05 * * * *", "0x5 * * * *", "5.0 * * * *", "*5 * * * *",
	"*-5 * * * *", "?-5 * * * *", "*,5 * * * *", "5,* * * * *", "0 9 *,5 * MON", "0 9 5,* * MON", "0 9 *,*/2 * MON",
	"0 9 */2,* * MON", "0 9 * * *,MON", "0 9 L * *", "0 9 * * MON#1", "0 9 15W * *", "0 9 * * FRIL", "0 9 * * MONDAY",
	"0 9 * JANUARY *", "0 9 * * M", "  0   9  *  *  *  ", "0\t9\t*\t*\t*", "0 9 * * MON-FRI/2", "0 9 * * 1/2", "0 9 10/5 * *",
	"0 9 * 6/2 *", "30 2 * * *", "0 0 * * *", "30 1 * * *", "0 3 * * *", "*/20 2 * * *", "15 * * * *", "0 2-4 * * *",
	"* * * * *", "*/7 * * * *", "0 */5 * * *", "0-10/3,50-59 * * * *", "59 23 31 12 *", "0 0 1 1 0", "0 12 13 * FRI",
	"0 12 13 * 5-6", "0 12 * 2 *", "0 0 28-31 * *",
}

func field(random *rand.Rand, low, high int) string {
	number := func() int { return low + random.Intn(high-low+1) }
	one := func() string {
		switch random.Intn(8) {
		case 0, 1:
			return "*"
		case 2:
			return fmt.Sprintf("*/%d", 1+random.Intn(high))
		case 3:
			first := number()
			return fmt.Sprintf("%d-%d", first, first+random.Intn(high-first+1))
		case 4:
			first := number()
			return fmt.Sprintf("%d-%d/%d", first, first+random.Intn(high-first+1), 1+random.Intn(5))
		case 5:
			return fmt.Sprintf("%d/%d", number(), 1+random.Intn(high))
		default:
			return fmt.Sprint(number())
		}
	}
	parts := []string{one()}
	for random.Intn(4) == 0 {
		parts = append(parts, one())
	}
	return strings.Join(parts, ",")
}

func parse(text string) (schedule cron.Schedule, err error) {
	defer func() {
		if recover() != nil { // for example, for a zone without a schedule
			err = fmt.Errorf("refused")
		}
	}()
	return cron.ParseStandard(text)
}

func row(expression, zone, start string) {
	schedule, err := parse(expression)
	found := []string{}
	location, zoneErr := time.LoadLocation(zone)
	instant, timeErr := time.Parse(time.RFC3339, start)
	if zoneErr != nil || timeErr != nil {
		panic("wrong table")
	}
	if err != nil {
		found = append(found, "error")
	} else {
		next := instant.In(location)
		for range activations {
			if next = schedule.Next(next); next.IsZero() {
				break
			}
			found = append(found, next.UTC().Format(time.RFC3339))
		}
		if len(found) == 0 {
			found = append(found, "never")
		}
	}
	fmt.Println(strings.Join([]string{strings.ReplaceAll(expression, "\t", "\\t"), zone, start, strings.Join(found, " ")}, "\t"))
}

func main() {
	random := rand.New(rand.NewSource(1))
	for _, expression := range byHand {
		for _, zone := range zones[:3] {
			for range 2 {
				row(expression, zone, starts[random.Intn(len(starts))])
			}
		}
	}
	for range 2500 {
		expression := strings.Join([]string{
			field(random, 0, 59), field(random, 0, 23), field(random, 1, 31), field(random, 1, 12), field(random, 0, 6),
		}, " ")
		row(expression, zones[random.Intn(len(zones))], starts[random.Intn(len(starts))])
	}
}
