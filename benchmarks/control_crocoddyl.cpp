// Crocoddyl's box-FDDP on a model whose step, cost and derivatives CasADi wrote in C: for benchmarks/control.py.
#include <crocoddyl/core/action-base.hpp>
#include <crocoddyl/core/optctrl/shooting.hpp>
#include <crocoddyl/core/solvers/box-fddp.hpp>
#include <crocoddyl/core/states/euclidean.hpp>
#include <ctime>

typedef int (*Call)(const double **, double **, long long *, double *, int);
typedef Eigen::VectorXd Vector;
typedef Eigen::Ref<const Vector> In;
typedef crocoddyl::ActionModelAbstractTpl<double> Base;
typedef crocoddyl::ActionDataAbstractTpl<double> Data;

class Model : public Base {
 public:
  CROCODDYL_BASE_DERIVED_CAST(crocoddyl::ActionModelBase, Model)

  Model(std::size_t n, std::size_t m, Call value, Call slopes, const Vector &low, const Vector &high)
      : Base(std::make_shared<crocoddyl::StateVectorTpl<double>>(n), m, 0),
        value_(value),
        slopes_(slopes),
        none_(Vector::Zero(m)),
        slope_(n + m),
        curvature_(n + m, n + m),
        memory_(100000) {  // far more than the problems' functions use
    set_u_lb(low);
    set_u_ub(high);
  }
  void calc(const std::shared_ptr<Data> &data, const In &x, const In &u) override {
    const double *in[] = {x.data(), u.data()};
    double *out[] = {data->xnext.data(), &data->cost};
    value_(in, out, nullptr, memory_.data(), 0);
  }
  void calcDiff(const std::shared_ptr<Data> &data, const In &x, const In &u) override {
    const double *in[] = {x.data(), u.data()};
    double *out[] = {data->Fx.data(), data->Fu.data(), slope_.data(), curvature_.data()};
    slopes_(in, out, nullptr, memory_.data(), 0);
    const std::size_t n = state_->get_nx(), m = nu_;
    data->Lx = slope_.head(n);
    data->Lu = slope_.tail(m);
    data->Lxx = curvature_.topLeftCorner(n, n);
    data->Luu = curvature_.bottomRightCorner(m, m);
    data->Lxu = curvature_.topRightCorner(n, m);
  }
  void calc(const std::shared_ptr<Data> &data, const In &x) override { calc(data, x, none_); }
  void calcDiff(const std::shared_ptr<Data> &data, const In &x) override { calcDiff(data, x, none_); }

 private:
  Call value_, slopes_;
  Vector none_, slope_;
  Eigen::MatrixXd curvature_;
  std::vector<double> memory_;
};

extern "C" {
int running_value(const double **, double **, long long *, double *, int);
int running_slopes(const double **, double **, long long *, double *, int);
int last_value(const double **, double **, long long *, double *, int);
int last_slopes(const double **, double **, long long *, double *, int);

// Solve from a first path; result: CPU seconds of the solve, cost, whether it converged.
void solve(int n, int m, int horizon, const double *states, const double *actions, const double *low,
           const double *high, double *result) {
  const Vector least = Eigen::Map<const Vector>(low, m), most = Eigen::Map<const Vector>(high, m);
  auto running = std::make_shared<Model>(n, m, running_value, running_slopes, least, most);
  auto last = std::make_shared<Model>(n, m, last_value, last_slopes, least, most);
  std::vector<std::shared_ptr<Base>> models(horizon, running);
  std::vector<Vector> xs, us;
  for (int k = 0; k <= horizon; ++k) xs.push_back(Eigen::Map<const Vector>(states + k * n, n));
  for (int k = 0; k < horizon; ++k) us.push_back(Eigen::Map<const Vector>(actions + k * m, m));
  auto problem = std::make_shared<crocoddyl::ShootingProblemTpl<double>>(xs[0], models, last);
  problem->set_nthreads(1);
  crocoddyl::SolverBoxFDDP solver(problem);
  solver.set_th_stop(1e-9);  // of the gain that it expects: slopes of about 1e-6; its own 5e-5 leaves 1e-3
  const std::clock_t start = std::clock();
  const bool converged = solver.solve(xs, us, 500, true);
  result[0] = double(std::clock() - start) / CLOCKS_PER_SEC;
  result[1] = solver.get_cost();
  result[2] = converged;
}
}
